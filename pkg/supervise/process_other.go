//go:build !linux

package supervise

import "syscall"

// attributes of a child: a process group of its own. Only Linux can tell it that its parent has died.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// adoptOrphans is for Linux only.
func adoptOrphans() error { return nil }

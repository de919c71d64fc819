package supervise

import "syscall"

// attributes of a child: a process group of its own, and SIGTERM when its parent dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

package supervise

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes of a child: a process group of its own, and SIGTERM when its parent dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// adoptOrphans has the orphans of our children become our own, as if we were PID 1.
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

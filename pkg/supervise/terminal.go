package supervise

import (
	"errors"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// errBackground says that the terminal is another job's.
var errBackground = errors.New("we are in the background ourselves")

// giveTerminal makes a process group the foreground job of the terminal that standard input is, if we are that job.
func giveTerminal(group int) error {
	now, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	if err != nil {
		return err
	}
	if now != unix.Getpgrp() { // the call would stop us
		return errBackground
	}
	return unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, group)
}

// takeTerminal makes us the terminal's foreground job again. Who is in the background may not, unless SIGTTOU is ignored (tcsetpgrp(3));
// no child is forked meanwhile, which would inherit that: the caller holds the Reaper's lock.
func takeTerminal() {
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	_ = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, unix.Getpgrp()) // a terminal that is gone needs nobody in its foreground
}

package supervise

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// giveTerminal makes a process group the foreground job of the terminal that standard input is.
func giveTerminal(group int) error { return unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, group) }

// takeTerminal makes us the terminal's foreground job again. Who is in the background may not, unless SIGTTOU is ignored (tcsetpgrp(3));
// no child is forked meanwhile, which would inherit that: the caller holds the Reaper's lock.
func takeTerminal() {
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	_ = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, unix.Getpgrp()) // a terminal that is gone needs nobody in its foreground
}

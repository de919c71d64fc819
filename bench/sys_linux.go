package main

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ownGroup puts a child into a process group of its own, so that the terminal's Ctrl-C reaches only us and we end the children in
// order, and has the kernel end it should we die without a word.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// killGroup ends a child and what it started. The group bears the child's id, so it is never anybody else's.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// sleepFor sleeps in the kernel. Go's own timers are rounded to a millisecond while the process waits in the poller, which is
// longer than most calls take.
func sleepFor(d time.Duration) {
	left := unix.NsecToTimespec(int64(d))
	for errors.Is(unix.Nanosleep(&left, &left), syscall.EINTR) {
	}
}

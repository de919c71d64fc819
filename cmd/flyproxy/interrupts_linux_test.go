package main

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A command that becomes another program must not lose a signal between its last look and that.
func TestSignalBeforeTheStopIsNotLost(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 200 {
		ctx, i := interruptible()
		// A signal to the thread that sends it is delivered before the call returns; one to the process may be delivered later.
		if err := unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		i.stop()
		if ctx.Err() == nil {
			t.Fatal("a signal was lost")
		}
	}
	ctx, i := interruptible()
	i.stop()
	if ctx.Err() != nil {
		t.Error("a stop ends the context")
	}
}

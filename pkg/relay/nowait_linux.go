package relay

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// readNow and writeNow read and write what a socket that does not block has, or takes, now. They are raw system calls, of which Go's
// scheduler is not told: an ordinary one, begun while everything else is idle, wakes the runtime's monitor thread (runtime.sysmon), to
// take the processor away should the call block, and that costs several thread switches where a call comes alone. These do not block.

func readNow(fd uintptr, p []byte) (int, error) { return rawCall(unix.SYS_READ, fd, p) }

func writeNow(fd uintptr, p []byte) (int, error) { return rawCall(unix.SYS_WRITE, fd, p) }

// rawCall retries what a signal has interrupted. p is not empty.
func rawCall(trap, fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

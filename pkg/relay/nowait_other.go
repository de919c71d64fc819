//go:build !linux

package relay

import "golang.org/x/sys/unix"

// readNow and writeNow read and write what a socket that does not block has, or takes, now.

func readNow(fd uintptr, p []byte) (n int, err error) {
	for {
		if n, err = unix.Read(int(fd), p); err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func writeNow(fd uintptr, p []byte) (n int, err error) {
	for {
		if n, err = unix.Write(int(fd), p); err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

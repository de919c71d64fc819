package grpcengine

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout has the kernel break a connection whose bytes were not acknowledged for d (RFC 5482, tcp(7)).
func setUserTimeout(raw syscall.RawConn, d time.Duration) error {
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	}); err != nil {
		return err
	}
	return set
}

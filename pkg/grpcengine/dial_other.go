//go:build !linux

package grpcengine

import (
	"syscall"
	"time"
)

// setUserTimeout does nothing: only Linux has TCP_USER_TIMEOUT. TCP keepalive finds dead connections that are silent.
func setUserTimeout(syscall.RawConn, time.Duration) error { return nil }

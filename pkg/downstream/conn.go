package downstream

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is a client's connection with TLS. The alert that ends it (close_notify) is not waited for: crypto/tls gives it five seconds,
// which whoever closes the connection of a client that does not read would lose.
type conn struct {
	*tls.Conn
	s *socket
}

func (c *conn) Close() error {
	c.s.closing.Store(true)
	return c.Conn.Close()
}

func (c *conn) CloseWrite() error {
	c.s.closing.Store(true)
	return c.Conn.CloseWrite()
}

// socket is what is below TLS.
type socket struct {
	net.Conn
	closing atomic.Bool
}

// SetWriteDeadline is called by crypto/tls for the last alert.
func (s *socket) SetWriteDeadline(t time.Time) error {
	if s.closing.Load() {
		t = time.Now().Add(lastWord)
	}
	return s.Conn.SetWriteDeadline(t)
}

// SyscallConn is for who asks the kernel about the path (TCP_INFO).
func (s *socket) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := s.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, syscall.ENOTSUP
}

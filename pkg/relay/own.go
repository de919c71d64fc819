package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// Register lets f put services on a gRPC server inside of this process, which the relay reaches like one more peer, over a socket
// pair. Call it before Serve, once.
func (e *Engine) Register(f func(grpc.ServiceRegistrar)) {
	f(e.server)
	for name := range e.server.GetServiceInfo() {
		e.names[name] = struct{}{}
	}
	lis := &pairListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	e.own = &peer{e: e, dial: lis.dial}
	e.tasks.Add(1)
	go e.serveOwn(lis)
}

func (e *Engine) serveOwn(lis *pairListener) {
	defer e.tasks.Done()
	_ = e.server.Serve(lis) // it ends with Close
}

// isOwn tells whether the sidecar itself answers a method.
func (e *Engine) isOwn(method string) bool {
	if len(e.names) == 0 || len(method) == 0 {
		return false
	}
	name, _, _ := strings.Cut(method[1:], "/")
	_, own := e.names[name]
	return own
}

// A call to the sidecar's own services takes much more memory than one that is forwarded: it has goroutines and its metadata in maps as
// long as it is open. So it counts as ownCost calls, and its fields may take ownFields octets at the most.
const (
	ownCost   = 32
	ownFields = 4 << 10
)

// takeOwn gives a call to the sidecar's own services; size is what its fields take.
func (s *stream) takeOwn(c *conn, size int) {
	if size > ownFields {
		s.e.hit(limitHeaderBytes)
		if _, mine := s.claim(); mine {
			s.fail(c, statusResourceExhausted, fmt.Sprintf("the headers are too large: the sidecar's own services take %d bytes", ownFields))
			s.finish(c, outcomeOfOurs, statusResourceExhausted)
		}
		return
	}
	if s.e.own.take(s, c) != taken {
		s.ownGone(c)
	}
}

// ownGone ends a call to the sidecar's own services when they can't be reached: the sidecar is ending.
func (s *stream) ownGone(c *conn) {
	if _, mine := s.claim(); mine {
		s.fail(c, statusUnavailable, "the sidecar's own service is ending")
		s.finish(c, outcomeOfOurs, statusUnavailable)
	}
}

// pairListener accepts one end of each socket pair that dial makes.
type pairListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pairListener) dial(ctx context.Context) (net.Conn, error) {
	ends, err := socketPair()
	if err != nil {
		return nil, err
	}
	select {
	case l.conns <- ends[1]:
		return ends[0], nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = ends[0].Close()
	_ = ends[1].Close()
	return nil, err
}

func socketPair() (ends [2]net.Conn, err error) {
	syscall.ForkLock.RLock() // a process that is started now does not get them: not every system can say so in the call
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return ends, os.NewSyscallError("socketpair", err)
	}
	var failed [2]error
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "own services")
		ends[i], failed[i] = net.FileConn(f)
		_ = f.Close() // FileConn has made a copy
	}
	if err := errors.Join(failed[:]...); err != nil {
		for _, end := range ends {
			if end != nil {
				_ = end.Close()
			}
		}
		return ends, err
	}
	return ends, nil
}

func (l *pairListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pairListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pairListener) Addr() net.Addr { return &net.UnixAddr{Name: "own services", Net: "unix"} }

package h2script

import (
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Requests are the calls that have come to any of the servers that share it and that the script has not taken. Its methods may be
// called concurrently.
type Requests struct {
	// mu guards the fields below.
	mu      sync.Mutex
	changed chan struct{}
	waiting []*Stream
}

// NewRequests makes an empty one.
func NewRequests() *Requests { return &Requests{changed: make(chan struct{})} }

func (r *Requests) put(s *Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, s)
	close(r.changed)
	r.changed = make(chan struct{})
}

// Take gives the first request for path, or nil when none comes within d.
func (r *Requests) Take(path string, d time.Duration) *Stream {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		r.mu.Lock()
		for i, s := range r.waiting {
			if v := Values(s.Request, ":path"); len(v) == 1 && v[0] == path {
				r.waiting = append(r.waiting[:i:i], r.waiting[i+1:]...)
				r.mu.Unlock()
				return s
			}
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			return nil
		}
	}
}

// Count is how many requests wait to be taken.
func (r *Requests) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting)
}

// Server accepts connections that all behave as its Options say.
type Server struct {
	Address string

	t        T
	l        net.Listener
	opts     Options
	requests *Requests
	serving  sync.WaitGroup

	// mu guards the fields below.
	mu     sync.Mutex
	raw    []net.Conn
	conns  []*Conn
	closed bool
}

// Serve starts a server on a port of its own. It ends with the script.
func Serve(t T, requests *Requests, o Options) *Server {
	t.Helper()
	if o.Name == "" {
		o.Name = "peer"
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	s := &Server{Address: l.Addr().String(), t: t, l: l, opts: o, requests: requests}
	s.serving.Go(s.acceptAll)
	t.Cleanup(s.Close)
	return s
}

func (s *Server) acceptAll() {
	for {
		nc, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			nc.Close()
		}
		s.raw = append(s.raw, nc)
		s.mu.Unlock()
		s.serving.Go(func() { s.serve(nc) })
	}
}

func (s *Server) serve(nc net.Conn) {
	defer nc.Close()
	if s.opts.Greeting != nil {
		_, _ = nc.Write(s.opts.Greeting)
		_, _ = io.Copy(io.Discard, nc)
		return
	}
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	c := newConn(s.t, nc, s.opts)
	c.requests = s.requests
	if !s.opts.NoSettings {
		c.SendSettings(s.opts.Settings...)
	}
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	c.readAll()
}

// Conns are the connections that got as far as HTTP/2, in the order of their prefaces.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Conn(nil), s.conns...)
}

// Close closes the listener and all connections. It may be called twice.
func (s *Server) Close() {
	s.l.Close()
	s.mu.Lock()
	s.closed = true
	for _, nc := range s.raw {
		nc.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

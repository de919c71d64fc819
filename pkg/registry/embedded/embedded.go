// Package embedded is a Redis inside of flyproxy, for development and demonstrations: no Redis to install, nothing to set up.
//
// All processes on a machine name the same loopback address. The first to come hosts the server, the others use it. When the host
// ends, another takes over with an empty server, and everybody registers again, as after any loss of a Redis' data. It is only a
// server: the registry in Redis talks to it as to a real one.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// DefaultAddress is where the server listens if nothing else is said. It is not Redis' own port.
const DefaultAddress = "127.0.0.1:56379"

// marker is a command by which processes know the server for theirs. It is no key, so FLUSHALL does not take it away.
const (
	marker       = "FLYPROXY.EMBEDDED"
	markerAnswer = "flyproxy"
)

const (
	probeTimeout = time.Second
	// A host binds before its marker is there, and an address may be refused just while a host ends. So one look is not enough.
	settleTime  = 2 * time.Second
	settlePause = 20 * time.Millisecond
	// After the host ended all others try at once; chance decides who is first, and the others find it there.
	takeoverJitter = 50 * time.Millisecond
	// How long to wait before trying again to be host where the address can be neither bound nor used.
	retryPause = time.Second
)

var errForeign = errors.New("something else listens there")

// Config says where.
type Config struct {
	// Address is host:port, the host a loopback IP address; empty means [DefaultAddress].
	Address string
	Logger  *slog.Logger
}

// Server is this process' part: host now, or ready to become it.
type Server struct {
	address string
	log     *slog.Logger
	stop    context.CancelFunc
	ended   chan struct{} // closed when the goroutine has ended

	mu   sync.Mutex // guards host
	host *miniredis.Miniredis
}

// Start returns when a server answers at the address, in this process or another. ctx bounds only the start; [Server.Close] ends
// what was started. Where something else listens there, the error says so and which key to change.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Address == "" {
		cfg.Address = DefaultAddress
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	at, err := netip.ParseAddrPort(cfg.Address)
	if err != nil || at.Port() == 0 || !at.Addr().Unmap().IsLoopback() {
		return nil, fmt.Errorf("registry.embedded.address %q: want a loopback address and a port, such as %s",
			cfg.Address, DefaultAddress)
	}
	s := &Server{address: cfg.Address, log: cfg.Logger, ended: make(chan struct{})}
	conn, err := s.settle(ctx)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	s.stop = stop
	go s.run(running, conn)
	return s, nil
}

// Address is where the server is, host:port.
func (s *Server) Address() string { return s.address }

// Hosting tells whether the server is in this process now.
func (s *Server) Hosting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.host != nil
}

// Close ends this process' part. A server that it hosts ends with its data. It may be called again.
func (s *Server) Close() error {
	s.stop()
	<-s.ended
	return nil
}

// run stands ready while another process hosts. conn is a connection to that; nil means that this process does.
func (s *Server) run(ctx context.Context, conn net.Conn) {
	defer close(s.ended)
	defer s.unhost()
	for {
		if conn == nil {
			<-ctx.Done()
			return
		}
		lost(ctx, conn)
		if !pause(ctx, rand.N(takeoverJitter)) {
			return
		}
		for {
			var err error
			if conn, err = s.settle(ctx); err == nil {
				break
			}
			if ctx.Err() == nil {
				s.log.Warn("embedded registry is gone and cannot be hosted here", "reason", err)
			}
			if !pause(ctx, retryPause) {
				return
			}
		}
	}
}

// lost returns when conn breaks or ctx ends. Nothing is ever sent on it.
func lost(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	unblock := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer unblock()
	var b [1]byte
	_, _ = conn.Read(b[:])
}

// settle becomes the host, giving nil, or finds the host, giving a connection to it.
func (s *Server) settle(ctx context.Context) (net.Conn, error) {
	deadline := time.Now().Add(settleTime)
	for {
		bindErr := s.becomeHost()
		if bindErr == nil {
			return nil, nil
		}
		conn, err := probe(ctx, s.address)
		if err == nil {
			s.log.Info("embedded registry is hosted by another process", "address", s.address)
			return conn, nil
		}
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("embedded registry at %s: %w", s.address, ctx.Err())
		case time.Now().Before(deadline):
			if !pause(ctx, settlePause) {
				return nil, fmt.Errorf("embedded registry at %s: %w", s.address, ctx.Err())
			}
		case errors.Is(err, errForeign):
			return nil, fmt.Errorf("registry.embedded.address %s: %w; choose another port, or, if it is a Redis, use it as one",
				s.address, err)
		default:
			return nil, fmt.Errorf("registry.embedded.address %s can be neither bound (%w) nor used (%w)", s.address, bindErr, err)
		}
	}
}

// becomeHost starts a server at the address.
func (s *Server) becomeHost() error {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(s.address); err != nil {
		return err
	}
	err := m.Server().Register(marker, func(c *server.Peer, _ string, _ []string) { c.WriteBulk(markerAnswer) })
	if err != nil {
		m.Close()
		return fmt.Errorf("mark the embedded registry: %w", err)
	}
	s.mu.Lock()
	s.host = m
	s.mu.Unlock()
	s.log.Info("embedded registry is hosted here", "address", s.address)
	return nil
}

func (s *Server) unhost() {
	s.mu.Lock()
	m := s.host
	s.host = nil
	s.mu.Unlock()
	if m != nil {
		m.Close()
	}
}

// probe connects to what listens at address and asks whether it is ours. errForeign means that it is not.
func probe(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: probeTimeout}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(probeTimeout))
	if _, err := conn.Write([]byte("*1\r\n$17\r\n" + marker + "\r\n")); err != nil {
		conn.Close()
		return nil, err
	}
	want := fmt.Sprintf("$%d\r\n%s\r\n", len(markerAnswer), markerAnswer)
	got := make([]byte, 0, len(want))
	for len(got) < len(want) {
		n, err := conn.Read(got[len(got):len(want)])
		got = got[:len(got)+n]
		if err != nil || string(got) != want[:len(got)] {
			conn.Close()
			return nil, fmt.Errorf("%w (it answers %q)", errForeign, got)
		}
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// pause waits for d, and tells whether ctx lasted as long.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

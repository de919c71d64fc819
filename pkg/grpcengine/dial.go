package grpcengine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// dialer opens connections to peers.
type dialer struct {
	net  net.Dialer
	tls  func() *tls.Config // nil: plain text
	pool *pool
}

func newDialer(cfg *Config, p *pool) *dialer {
	d := &dialer{pool: p, tls: cfg.TLS}
	d.net = net.Dialer{
		Timeout: cfg.ConnectTimeout,
		// A connection without a word, and without unacknowledged bytes, is probed by TCP and not by HTTP/2 PINGs: grpc-go servers
		// close connections that PING more often than every 5 minutes.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: cfg.DeadAfter, Interval: max(cfg.DeadAfter/3, time.Second), Count: 3},
		ControlContext: func(_ context.Context, _, address string, raw syscall.RawConn) error {
			// The address is what the name resolved to.
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("peer address: %w", err)
			}
			if !registry.Allowed(cfg.AllowedNetworks, at.Addr()) {
				return fmt.Errorf("%w: %s", registry.ErrNetwork, at.Addr())
			}
			if cfg.Own != nil && cfg.Own(at) {
				return fmt.Errorf("%w: %s", engine.ErrOwnListener, at)
			}
			return setUserTimeout(raw, cfg.DeadAfter)
		},
	}
	return d
}

// dial opens one connection for the link that the context names.
func (d *dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	l := credentials.ClientHandshakeInfoFromContext(ctx).Attributes.Value(linkKey{}).(*link)
	nc, err := d.net.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if d.tls != nil {
		if nc, err = d.secure(ctx, nc, address); err != nil {
			return nil, err
		}
	}
	c := newConn(nc, l)
	d.pool.mu.Lock()
	d.pool.conns[c] = struct{}{}
	d.pool.mu.Unlock()
	l.conn.Store(c)
	return c, nil
}

// errNoALPN says that a peer speaks TLS, but maybe not HTTP/2: who does must say so (RFC 9113 §3.2).
var errNoALPN = errors.New("the peer does not take h2 by ALPN")

// secure makes the handshake. It closes the connection where that fails. A peer that misses our certificate may say so only after the
// handshake (RFC 8446 §4.4.2.4): then it is the first read that fails.
func (d *dialer) secure(ctx context.Context, nc net.Conn, address string) (net.Conn, error) {
	cfg := d.tls().Clone()
	cfg.NextProtos = []string{"h2"}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(address)
	}
	secured := tls.Client(nc, cfg)
	err := secured.HandshakeContext(ctx)
	if err == nil && secured.ConnectionState().NegotiatedProtocol != "h2" {
		err = errNoALPN
	}
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS with %s: %w", address, err)
	}
	return secured, nil
}

// closeConns closes what grpc-go still holds: connections that were drained when their ClientConn was closed.
func (p *pool) closeConns() {
	p.mu.Lock()
	left := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		left = append(left, c)
	}
	p.mu.Unlock()
	for _, c := range left {
		c.Close()
	}
}

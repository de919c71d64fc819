package grpcengine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// dialer opens connections to peers.
type dialer struct {
	net  net.Dialer
	pool *pool
}

func newDialer(cfg *Config, p *pool) *dialer {
	d := &dialer{pool: p}
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
	c := newConn(nc, l)
	d.pool.mu.Lock()
	d.pool.conns[c] = struct{}{}
	d.pool.mu.Unlock()
	l.conn.Store(c)
	return c, nil
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

package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// keepAlive finds a peer whose Machine is gone while nothing is sent to it. The janitor ends the connection (silence.go), so Count does
// not matter.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 30}

// dialer makes the function that dials one peer.
func (e *Engine) dialer(address string) func(context.Context) (net.Conn, error) {
	d := &net.Dialer{KeepAliveConfig: keepAlive, Control: e.control}
	return func(ctx context.Context) (net.Conn, error) {
		nc, err := d.DialContext(ctx, "tcp", address)
		if err != nil || e.cfg.TLS == nil {
			return nc, err
		}
		return e.handshake(ctx, nc, address)
	}
}

// handshake makes TLS of a connection. A peer that does not agree to h2 (RFC 9113 §3.2) is none.
func (e *Engine) handshake(ctx context.Context, nc net.Conn, address string) (net.Conn, error) {
	cfg := e.cfg.TLS().Clone()
	cfg.NextProtos = []string{"h2"}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(address)
	}
	tc := tls.Client(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	if got := tc.ConnectionState().NegotiatedProtocol; got != "h2" {
		_ = tc.Close()
		return nil, fmt.Errorf("TLS handshake with %s: the peer does not agree to h2 by ALPN (it chose %q)", address, got)
	}
	return tc, nil
}

// control sets what a peer's socket needs, once its address is known. It refuses addresses outside of the allowed networks: this is
// what a name resolved to.
func (e *Engine) control(_, address string, raw syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !registry.Allowed(e.cfg.AllowedNetworks, ap.Addr()) {
		return fmt.Errorf("%w: %s", registry.ErrNetwork, ap.Addr())
	}
	if e.cfg.Own != nil && e.cfg.Own(ap) {
		return fmt.Errorf("%w: %s", engine.ErrOwnListener, ap)
	}
	return raw.Control(setRetransmits)
}

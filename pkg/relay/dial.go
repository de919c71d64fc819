package relay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// dialer makes the function that dials one peer.
func (e *Engine) dialer(address string) func(context.Context) (net.Conn, error) {
	d := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3},
		Control:         e.checkAddress,
	}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
}

// checkAddress refuses addresses outside of the allowed networks. It runs on what a name resolved to.
func (e *Engine) checkAddress(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !registry.Allowed(e.cfg.AllowedNetworks, ap.Addr()) {
		return fmt.Errorf("%w: %s", registry.ErrNetwork, ap.Addr())
	}
	return nil
}

package registrar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// InboundMode says whether the sidecar listens at the advertised address on the app's behalf.
type InboundMode string

// The inbound modes.
const (
	// InboundAuto listens there when the app itself is not reachable there.
	InboundAuto InboundMode = "auto"
	// InboundAlways listens there in any case, and it is a fault if the app does so itself.
	InboundAlways InboundMode = "always"
	// InboundNever leaves it to the app.
	InboundNever InboundMode = "never"
)

// ErrUnreachable says that peers could not reach the app at the address that it would advertise.
var ErrUnreachable = errors.New("app not reachable at its advertised address")

// Probe tells whether something accepts TCP connections at address (host:port; a DNS name is resolved). It is bounded by ctx only.
func Probe(ctx context.Context, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	return conn.Close()
}

// sameAddress tells whether a and b name the same host and port as far as can be said without resolving names.
func sameAddress(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := netip.ParseAddrPort(a)
	y, errY := netip.ParseAddrPort(b)
	return errX == nil && errY == nil && x.Port() == y.Port() && x.Addr().Unmap() == y.Addr().Unmap()
}

// reach makes sure that the app, found healthy at app, can be reached at the advertised address, and opens the inbound listener
// where that is needed and allowed. It returns with the listener open only if it returns nil.
func (r *Registrar) reach(ctx context.Context, app string) error {
	advertised := r.cfg.Instance.Address
	direct := r.cfg.Inbound == InboundNever || sameAddress(advertised, app)
	why := "inbound is always"
	if direct || r.cfg.Inbound == InboundAuto {
		err := r.probe(ctx, advertised)
		if err == nil {
			return nil
		}
		if direct {
			return r.unreachable(app, err)
		}
		why = err.Error()
	}
	if err := r.inbound.open(ctx, app); err != nil {
		return r.unreachable(app, err)
	}
	if err := r.probe(ctx, advertised); err != nil {
		r.inbound.shut()
		return r.unreachable(app, fmt.Errorf("after listening there: %w", err))
	}
	r.log.Info("listening at the advertised address on the app's behalf",
		"app", r.cfg.App.Name, "advertised", advertised, "app_address", app, "why", why)
	return nil
}

func (r *Registrar) probe(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ProbeTimeout)
	defer cancel()
	return Probe(ctx, address)
}

// unreachable says what is wrong, where, and what to do about it.
func (r *Registrar) unreachable(app string, err error) error {
	advertised := r.cfg.Instance.Address
	todo := "bind the app to [::], or set apps[].inbound to auto, or set registration.address to where it listens"
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		todo = "no interface of this Machine has that address: correct registration.address, or bind the app to [::]"
	case errors.Is(err, syscall.EADDRINUSE) && r.cfg.Inbound == InboundAlways:
		todo = "something listens there already, maybe the app itself: set apps[].inbound to auto, or bind the app to 127.0.0.1"
	case errors.Is(err, syscall.EADDRINUSE):
		todo = "something has taken that address but does not accept there: end it, or set registration.address to another port"
	case errors.Is(err, syscall.EACCES):
		todo = "this process may not listen there: use a port above 1023 in registration.address, or bind the app to [::]"
	case r.cfg.Inbound != InboundNever && !sameAddress(advertised, app):
		todo = "check registration.address, or bind the app to [::]"
	}
	return fmt.Errorf("%w: advertised %s, app at %s, inbound %s: %w; %s", ErrUnreachable, advertised, app, r.cfg.Inbound, err, todo)
}

// Package downstream guards the listeners on which a gateway takes clients from the network: who may connect, and with TLS how. Both
// data planes serve what it lets through, and need not know of it.
//
// A client from elsewhere is closed before a byte of it is read. A TLS handshake has a goroutine and a time limit of its own, so that
// accepting others waits for nobody. What was refused, and why, is counted and logged at a bounded rate.
package downstream

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

// Config is what a Gate is made of.
type Config struct {
	// Networks are where clients may connect from; none means anywhere. IPv4-mapped addresses count as the IPv4 ones they stand for.
	Networks []netip.Prefix
	// TLS gives the configuration of one handshake; it is asked anew for each, so certificates may change. The gate sets ALPN to h2.
	// Nil means plain text.
	TLS func() *tls.Config
	// HandshakeTimeout bounds one TLS handshake, and MaxHandshakes, at least 1, how many there are at a time. One beyond it costs another
	// its place: the oldest of the client that has the most. All of one IPv6 /64 count as one client; in fdaa::/16, all of
	// a /112, which is a Machine.
	HandshakeTimeout time.Duration
	MaxHandshakes    int
	// Logger may be nil.
	Logger *slog.Logger
}

// Gate guards listeners. Its methods may be called concurrently.
type Gate struct {
	cfg      Config
	log      *slog.Logger
	throttle *telemetry.Throttle

	pending *pending
	refused [reasons]atomic.Uint64
}

// One line a minute for each of so many clients and reasons, and one for all others.
const (
	logEvery = time.Minute
	logKeys  = 32
)

// New makes a Gate.
func New(cfg Config) *Gate {
	g := &Gate{cfg: cfg, log: cfg.Logger, throttle: telemetry.NewThrottle(logEvery, logKeys), pending: newPending(cfg.MaxHandshakes)}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	return g
}

// Guard gives a listener whose connections have passed the gate. It belongs to the caller: closing it closes lis and ends its handshakes.
// A unix socket stays as it is: its file's permissions say who may connect, and what passes stays on this host.
func (g *Gate) Guard(lis net.Listener) net.Listener {
	if lis.Addr().Network() == "unix" {
		return lis
	}
	lis = &filtered{lis, g}
	if g.cfg.TLS != nil {
		lis = newSecured(lis, g)
	}
	return lis
}

// Refused counts, by reason, the connections that were closed so far. It has every reason.
func (g *Gate) Refused() map[string]uint64 {
	m := make(map[string]uint64, reasons)
	for r := range reasons {
		m[r.String()] = g.refused[r].Load()
	}
	return m
}

// refuse counts and logs a connection that is closed.
func (g *Gate) refuse(nc net.Conn, why reason, err error) {
	g.refused[why].Add(1)
	client := clientAddress(nc)
	args := []any{"reason", why.String(), "client", nc.RemoteAddr().String(), "listener", nc.LocalAddr().String()}
	if why == reasonAddress {
		args = append(args, "allowed", g.cfg.Networks)
	}
	if err != nil {
		args = append(args, "error", err)
	}
	g.throttle.Log(g.log, why.level(), why.String()+" "+client.String(), why.says(), args...)
}

// clientAddress is where a connection comes from; the zero Addr where that is not known.
func clientAddress(nc net.Conn) netip.Addr {
	if at, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return at.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// filtered accepts clients of the allowed networks.
type filtered struct {
	net.Listener
	g *Gate
}

func (l *filtered) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if registry.Allowed(l.g.cfg.Networks, clientAddress(nc)) {
			return nc, nil
		}
		l.g.refuse(nc, reasonAddress, nil) // first, so that who sees it closed finds it counted
		reset(nc)
	}
}

// reset closes a connection at once, so that the kernel keeps nothing of it either (TIME_WAIT).
func reset(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	_ = nc.Close()
}

package grpcengine

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// While a peer that was in use refuses connections, it is tried again in the background, this often. So the next call need not find
// out.
const (
	minRedialInterval = 50 * time.Millisecond
	maxRedialInterval = time.Second
)

// link is one connection to a peer, and its successors after it has broken: a SubConn of grpc-go.
type link struct {
	peer     *peer
	sub      balancer.SubConn // set before the state is Ready
	conn     atomic.Pointer[conn]
	lastUsed atomic.Int64

	// Guarded by peer.mu.
	state    connectivity.State
	failures int
	// failing tells that the last try failed, while the next one is under way.
	failing bool
}

type linkKey struct{}

// open makes the link's SubConn and has it connected.
func (l *link) open() {
	cc := *l.peer.pool.cc.Load()
	//lint:ignore SA1019 deprecated is a SubConn with several addresses; this one has one, and there is no other way to make it.
	sub, err := cc.NewSubConn([]resolver.Address{{
		Addr: l.peer.of.Address,
		// How the dialer learns which link a connection is for.
		Attributes: attributes.New(linkKey{}, l),
	}}, balancer.NewSubConnOptions{StateListener: l.changed})
	l.peer.mu.Lock()
	l.sub = sub
	shut := l.state == connectivity.Shutdown
	if err != nil { // the ClientConn is being closed
		l.failures++
		l.state = connectivity.Shutdown
		l.peer.drop(l)
	}
	l.peer.mu.Unlock()
	switch {
	case err != nil:
		wake(cc)
	case shut:
		sub.Shutdown()
		wake(cc)
	default:
		sub.Connect()
	}
}

// changed is called by grpc-go, for one link after the other.
func (l *link) changed(s balancer.SubConnState) {
	pe, router := l.peer, l.peer.pool.cfg.Router
	state := s.ConnectivityState
	pe.mu.Lock()
	if l.state == connectivity.Shutdown {
		// Out of the pool already; whoever waited for it must hear of it.
		pe.mu.Unlock()
		if state == connectivity.Shutdown {
			wake(*pe.pool.cc.Load())
		}
		return
	}
	was := l.state
	l.state = state
	news := state == connectivity.TransientFailure && !l.failing
	switch state {
	case connectivity.TransientFailure:
		l.failures++
		l.failing = true
	case connectivity.Ready:
		l.failing = false
	}
	c := l.conn.Load()
	broke := was == connectivity.Ready && state != connectivity.Ready && c.broken.Load() && c.streams.Load() > 0
	first := pe.links[0] == l
	recent := time.Since(time.Unix(0, pe.lastUsed.Load())) < pe.pool.cfg.IdleTimeout
	var reconnect, shut bool
	switch {
	case !first && (state == connectivity.Idle || state == connectivity.TransientFailure):
		// Another connection beside the first is opened again when it is needed again.
		shut = true
		if state == connectivity.TransientFailure {
			pe.fullUntil = time.Now().Add(maxRedialInterval)
		}
		l.state = connectivity.Shutdown
		pe.drop(l)
	case state == connectivity.Idle && recent:
		reconnect = true
		l.state = connectivity.Connecting
	}
	pe.publish()
	pe.mu.Unlock()

	if news {
		pe.pool.cfg.Logger.Warn("cannot connect to peer", "service", pe.of.Key.Service, "instance", pe.of.Key.ID,
			"address", pe.of.Address, "error", s.ConnectionError)
	}
	switch {
	case state == connectivity.Ready:
		router.Connected(pe.of)
	case first && (state == connectivity.TransientFailure || broke):
		// New calls go elsewhere from now on; Accept takes it back when the peer answers again.
		router.Refuse(pe.of)
	}
	if shut {
		l.sub.Shutdown()
	}
	if reconnect {
		l.sub.Connect()
	}
	wake(*pe.pool.cc.Load())
}

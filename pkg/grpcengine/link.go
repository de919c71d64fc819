package grpcengine

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// While a peer that was in use refuses connections, or closes them at once, it is tried again in the background, this often. So the
// next call need not find out, and a peer that is in trouble is not dialled by every call.
const (
	minRedialInterval = 50 * time.Millisecond
	maxRedialInterval = time.Second
	// steadyAfter is how long a connection without an answered call must have lived to be opened again at once.
	steadyAfter = 5 * time.Second
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
	// failing tells that the last try failed, or was short-lived, while the next one is under way.
	failing bool
	// paced tells that the link is idle, but counts as failed until redial connects it.
	paced bool
	timer *time.Timer
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
		l.tell()
	case shut:
		sub.Shutdown()
		l.tell()
	default:
		sub.Connect()
	}
}

// tell wakes all calls that may wait for this link: in the peer's queue, or in grpc-go, which found the link gone when it wanted to
// use it.
func (l *link) tell() {
	l.peer.wakeAll()
	wake(*l.peer.pool.cc.Load())
}

// changed is called by grpc-go, for one link after the other.
func (l *link) changed(s balancer.SubConnState) {
	pe := l.peer
	state := s.ConnectivityState
	pe.mu.Lock()
	if l.state == connectivity.Shutdown {
		// Out of the pool already; whoever waited for it must hear of it.
		pe.mu.Unlock()
		if state == connectivity.Shutdown {
			l.tell()
		}
		return
	}
	was := l.state
	l.state = state
	// What was Connecting and is Idle was connected for a moment.
	ended := state == connectivity.Idle && (was == connectivity.Ready || was == connectivity.Connecting)
	c := l.conn.Load()
	broke := was == connectivity.Ready && state != connectivity.Ready && c.broken.Load() && c.streams.Load() > 0
	flapped := false
	if ended {
		if flapped = c != nil && !c.answered.Load() && time.Since(c.born) < steadyAfter; flapped {
			pe.flaps++
		} else {
			pe.flaps = 0
		}
	}
	flaps := pe.flaps
	news := state == connectivity.TransientFailure && !l.failing
	switch {
	case state == connectivity.TransientFailure:
		l.failures++
		l.failing = true
	case flapped:
		l.failing = true
	case state == connectivity.Ready:
		l.failing = false
	}
	first := pe.links[0] == l
	recent := time.Since(time.Unix(0, pe.lastUsed.Load())) < pe.pool.cfg.IdleTimeout
	var reconnect, shut bool
	switch {
	case !first && (state == connectivity.Idle || state == connectivity.TransientFailure):
		// Another connection beside the first is opened again when it is needed again.
		shut = true
		if flapped || state == connectivity.TransientFailure {
			pe.fullUntil = time.Now().Add(maxRedialInterval)
		}
		l.state = connectivity.Shutdown
		pe.drop(l)
	case flapped:
		l.pace(flaps)
	case state == connectivity.Idle && recent:
		reconnect = true
		l.state = connectivity.Connecting
	}
	pe.publish()
	pe.mu.Unlock()

	l.report(s, news, flaps == 1 && flapped)
	switch router := pe.pool.cfg.Router; {
	case state == connectivity.Ready && flaps == 0:
		router.Connected(pe.of)
	case first && (state == connectivity.TransientFailure || broke || flapped):
		// New calls go elsewhere from now on, until one that tries it is answered.
		router.Refuse(pe.of)
	}
	if shut {
		l.sub.Shutdown()
	}
	if reconnect {
		l.sub.Connect()
	}
	l.tell()
}

// report logs the beginning of a trouble, not each of its signs.
func (l *link) report(s balancer.SubConnState, failed, flapped bool) {
	of, log := l.peer.of, l.peer.pool.cfg.Logger
	switch {
	case failed:
		log.Warn("cannot connect to peer", "service", of.Key.Service, "instance", of.Key.ID, "address", of.Address,
			"error", s.ConnectionError)
	case flapped:
		log.Warn("peer closes connections soon after it accepts them", "service", of.Key.Service, "instance", of.Key.ID,
			"address", of.Address)
	}
}

// pace has the link connected again after a while: the longer, the more connections in a row were short-lived. The caller holds
// peer.mu.
func (l *link) pace(flaps int) {
	l.state = connectivity.TransientFailure
	d := maxRedialInterval
	if shift := flaps - 1; shift < 5 {
		d = min(d, minRedialInterval<<shift)
	}
	p := l.peer.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	l.paced = true
	p.redials.Add(1)
	l.timer = time.AfterFunc(d, l.redial)
}

// redial is run by the timer.
func (l *link) redial() {
	defer l.peer.pool.redials.Done()
	l.peer.mu.Lock()
	paced := l.paced
	if paced {
		l.paced = false
		l.state = connectivity.Connecting
	}
	l.peer.mu.Unlock()
	if paced {
		l.sub.Connect()
	}
}

// stopRedial stops the timer, if it is set. The caller holds peer.mu.
func (l *link) stopRedial() {
	if l.paced && l.timer.Stop() {
		l.peer.pool.redials.Done()
	}
	l.paced = false
}

// stopRedials stops all timers, lets no other be set, and waits for those that are just running.
func (p *pool) stopRedials() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.peers.Range(func(_, v any) bool {
		pe := v.(*peer)
		pe.mu.Lock()
		for _, l := range pe.links {
			l.stopRedial()
		}
		pe.mu.Unlock()
		return true
	})
	p.redials.Wait()
}

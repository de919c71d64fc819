package relay

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// peer is one routing.Peer's connections and the calls that wait for one.
type peer struct {
	e *Engine
	// of is nil for the sidecar's own services.
	of   *routing.Peer
	dial func(context.Context) (net.Conn, error)

	// ready are the links that take calls: a snapshot that is swapped, never changed. waiters is the length of waiting.
	ready   atomic.Pointer[[]*link]
	waiters atomic.Int32
	used    atomic.Int64 // when a call last came here, on the engine's clock
	// resuming says that a goroutine is about to look at the calls that wait.
	resuming atomic.Bool

	// mu guards the fields below and those of the links so marked. A stream's and a connection's locks are never taken under it, and
	// nothing is called out.
	mu      sync.Mutex
	links   []*link   // those that are open, also the silent and the leaving ones
	waiting []*stream // the oldest call first
	dialing bool
	// swept says that the peer is no longer in the pool, since it had nothing: who still holds it takes the one there is now.
	swept bool
	// removed says that the registry no longer shows the peer. It stays in the pool for a while as its own gravestone: a call that
	// was routed to it a moment before must not connect to it again.
	removed bool
	// failures is how many attempts in a row failed, or gave a connection that was of no use; nextDial paces the next, on the engine's
	// clock.
	failures  int
	nextDial  int64
	redialing bool // a timer waits for nextDial
}

// verdict is what became of a call that was given to a peer.
type verdict uint8

const (
	taken   verdict = iota // it is on its way, or waits
	refused                // no connection can be had
	busy                   // there is no room now, and the call may look elsewhere
	swept                  // the pool has forgotten this peer: another stands in its place, or will
)

// take gives the call to one of the peer's connections, or lets it wait for one. c is the connection on whose reader it runs, nil
// elsewhere.
func (pe *peer) take(s *stream, c *conn) verdict {
	now := pe.e.now(c)
	pe.used.Store(now)
	for {
		l := pe.reserve()
		if l == nil {
			break
		}
		if pe.give(s, l, c) {
			return taken
		}
	}
	pe.mu.Lock()
	if pe.swept {
		pe.mu.Unlock()
		return swept
	}
	dial, v := pe.decide(s.mayLeave(), now)
	if v == taken {
		pe.enqueue(s)
	}
	pe.mu.Unlock()
	if dial {
		pe.startDial()
	}
	if v == taken {
		pe.startWaiting(c) // room may have come up meanwhile
	}
	return v
}

// decide says what a call does that found no room: whether a connection is opened for it, and whether it waits. The caller holds mu.
func (pe *peer) decide(mayLeave bool, now int64) (dial bool, v verdict) {
	var ready, silent, shut int
	free := false
	for _, l := range pe.links {
		switch {
		case l.leaving:
		case l.silent, l.doubted:
			silent++
		default:
			ready++
			most := l.most.Load()
			if most == 0 {
				shut++
			}
			free = free || l.streams.Load() < most
		}
	}
	open := ready + silent
	room := open < pe.e.cfg.MaxConnectionsPerPeer && now >= pe.nextDial
	switch {
	case pe.removed:
		return false, refused
	case free:
		return false, taken // room has come up since the caller looked: startWaiting finds it
	case silent > 0 && ready == 0 && mayLeave:
		return false, busy
	case pe.dialing:
		if pe.failures > 0 && ready == 0 && mayLeave {
			return false, busy // the last attempt failed, so this one may
		}
		return false, taken
	case ready == 0 && silent == 0 && !room:
		switch {
		case mayLeave:
			return false, busy
		case pe.failures > maxFailures:
			return false, refused
		}
		pe.redialLater(now) // the first few attempts follow each other soon
		return false, taken
	case shut > 0 && shut == ready, !room: // a peer that takes no calls takes none on another connection
		if mayLeave {
			return false, busy
		}
		return false, taken
	}
	pe.dialing = true
	if pe.failures > 0 && ready == 0 && mayLeave {
		return true, busy // as above: it is tried, and no call waits for it
	}
	return true, taken
}

// give begins the call on a link on which a place was reserved. It is false when the link takes no more calls.
func (pe *peer) give(s *stream, l *link, c *conn) bool {
	switch s.begin(l.c, pe.e.now(c)) {
	case leaving:
		l.streams.Add(-1)
		l.leave()
		return false
	case over:
		l.freed() // a call that has seen the place taken may wait for it
	case onItsWay:
		flushFrom(c, l.c)
	}
	return true
}

// reserve finds the ready link with the fewest calls and takes a place on it; nil when none has room. No place is ever taken and
// given back for nothing: another caller could miss it.
func (pe *peer) reserve() *link {
	links := pe.ready.Load()
	if links == nil {
		return nil
	}
	for {
		var best *link
		var least int64
		for _, l := range *links {
			if n := l.streams.Load(); n < l.most.Load() && (best == nil || n < least) {
				best, least = l, n
			}
		}
		if best == nil {
			return nil
		}
		if best.streams.CompareAndSwap(least, least+1) {
			return best
		}
	}
}

// enqueue has a call wait, behind all that are older. The caller holds mu.
func (pe *peer) enqueue(s *stream) {
	at := len(pe.waiting)
	for at > 0 && pe.waiting[at-1].started > s.started {
		at--
	}
	pe.waiting = slices.Insert(pe.waiting, at, s)
	pe.waiters.Store(int32(len(pe.waiting)))
}

// next takes the oldest call that waits; nil when there is none.
func (pe *peer) next() *stream {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	if len(pe.waiting) == 0 {
		return nil
	}
	s := pe.waiting[0]
	pe.waiting[0] = nil
	pe.waiting = pe.waiting[1:]
	pe.waiters.Store(int32(len(pe.waiting)))
	return s
}

// takeWaiting takes up to most calls that wait. The caller holds mu.
func (pe *peer) takeWaiting(most int) []*stream {
	n := min(len(pe.waiting), most)
	all := pe.waiting[:n:n]
	if pe.waiting = pe.waiting[n:]; len(pe.waiting) == 0 {
		pe.waiting = nil
	}
	pe.waiters.Store(int32(len(pe.waiting)))
	return all
}

// startWaiting gives waiting calls to connections that have room. c is the connection on whose reader it runs, nil elsewhere.
func (pe *peer) startWaiting(c *conn) {
	for pe.waiters.Load() > 0 {
		l := pe.reserve()
		if l == nil {
			pe.settle(c)
			return
		}
		s := pe.next()
		if s == nil {
			l.streams.Add(-1)
			continue // who came since has seen the place taken
		}
		if pe.give(s, l, c) {
			continue
		}
		pe.mu.Lock()
		removed := pe.removed
		if !removed {
			pe.enqueue(s)
		}
		pe.mu.Unlock()
		if removed {
			s.again(c, outcomeOfOurs, reasonNotSent)
		}
	}
}

// settle sees to calls that wait while no connection has room: another is opened, or they wait on, or, where there is nothing to
// wait for, they go elsewhere.
func (pe *peer) settle(c *conn) {
	pe.mu.Lock()
	if len(pe.waiting) == 0 {
		pe.mu.Unlock()
		return
	}
	dial, v := pe.decide(false, pe.e.clock())
	var gone []*stream
	if v == refused {
		gone = pe.takeWaiting(len(pe.waiting))
	}
	pe.mu.Unlock()
	if dial {
		pe.startDial()
	}
	pe.elsewhere(c, gone)
}

// elsewhere has calls look for another peer.
func (pe *peer) elsewhere(c *conn, calls []*stream) {
	for _, s := range calls {
		if pe.of == nil {
			s.ownGone(c)
			continue
		}
		s.again(c, routing.Refused, reasonNotSent)
	}
}

// reconsider has some of the calls that have waited for a while look around: another peer may have got room, or be new. They keep
// their age, so they lose no place.
func (pe *peer) reconsider(now int64) {
	const some = 16
	pe.mu.Lock()
	pe.waiting = slices.DeleteFunc(pe.waiting, (*stream).finished)
	n := 0
	for n < min(len(pe.waiting), some) && now-pe.waiting[n].started > int64(tick) && !pe.dialing {
		n++
	}
	calls := pe.takeWaiting(n)
	pe.mu.Unlock()
	for _, s := range calls {
		s.mu.Lock()
		s.attempts--
		s.mu.Unlock()
		s.unpick(outcomeOfOurs)
		s.busy, s.queues = 0, false
		s.call.Forget()
		s.route(nil)
	}
}

// publish swaps the snapshot of the links that take calls. The caller holds mu.
func (pe *peer) publish() {
	ready := make([]*link, 0, len(pe.links))
	for _, l := range pe.links {
		if l.takesCalls() {
			ready = append(ready, l)
		}
	}
	pe.ready.Store(&ready)
}

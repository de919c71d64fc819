package grpcengine

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// maxConnects is how often one attempt of a call has its peer's connection opened, when it comes up and goes at once.
const maxConnects = 3

// peer is one routing.Peer's connections.
type peer struct {
	pool *pool
	of   *routing.Peer
	// lastUsed is when a call last chose it, in Unix nanoseconds.
	lastUsed atomic.Int64
	// ready are the links that take calls: a snapshot of links that is swapped, never changed.
	ready atomic.Pointer[[]*link]

	// mu guards the fields below and those of the links so marked. It is never held while calling grpc-go or the router.
	mu sync.Mutex
	// closed bars new links. When the peer was removed as well, it stays in the pool for a while as its own gravestone: a call that
	// was routed to it a moment before must not connect to it again.
	closed, removed bool
	links           []*link
	// fullUntil bars opening another connection beside the first, after one has failed.
	fullUntil time.Time
}

// free takes a stream on the ready link with the fewest, if one has room.
func (pe *peer) free() (*link, *conn) {
	links := pe.ready.Load()
	if links == nil {
		return nil, nil
	}
	var best *link
	var least int64
	for _, l := range *links {
		if n := l.conn.Load().streams.Load(); best == nil || n < least {
			best, least = l, n
		}
	}
	if best == nil {
		return nil, nil
	}
	if c := best.conn.Load(); c.take() {
		return best, c
	}
	return nil, nil
}

// todo is what is left to do once the lock is released.
type todo uint8

const (
	nothing todo = iota
	again        // look the peer up again
	open         // make the link's SubConn and connect it
	dial         // connect the link's SubConn
)

// choose decides what an attempt does that found no link with room.
func (pe *peer) choose(a *attempt) (*link, todo, verdict) {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	if pe.closed {
		if pe.removed || a.link != nil {
			return nil, nothing, gone
		}
		return nil, again, 0
	}
	full := pe.in(connectivity.Ready)
	if l := a.link; l != nil && (l.failures != a.failures || l.state == connectivity.Shutdown) && full == nil {
		return nil, nothing, refused
	}
	if l := pe.in(connectivity.Connecting); l != nil {
		if l.failing && a.hasChoice() && full == nil {
			return nil, nothing, refused // as grpc-go's own balancers see it: failing until it is ready again
		}
		a.await(l)
		return l, nothing, wait
	}
	switch {
	case full != nil && (len(pe.links) >= pe.pool.cfg.MaxConnectionsPerPeer || time.Now().Before(pe.fullUntil)):
		return full, nothing, connected // grpc-go lets it wait for a stream
	case full == nil && pe.in(connectivity.TransientFailure) != nil:
		return nil, nothing, refused
	}
	if a.connects++; a.connects > maxConnects {
		return nil, nothing, refused
	}
	if l := pe.in(connectivity.Idle); l != nil {
		l.state = connectivity.Connecting
		a.await(l)
		return l, dial, wait
	}
	l := &link{peer: pe, state: connectivity.Connecting}
	pe.links = append(pe.links, l)
	a.await(l)
	return l, open, wait
}

// in gives a link in that state, the one with the fewest streams if there are several that are ready. The caller holds mu.
func (pe *peer) in(s connectivity.State) *link {
	var best *link
	for _, l := range pe.links {
		if l.state != s {
			continue
		}
		if s != connectivity.Ready {
			return l
		}
		if best == nil || l.conn.Load().streams.Load() < best.conn.Load().streams.Load() {
			best = l
		}
	}
	return best
}

// hasChoice tells whether the call might go to another peer as well. Where it may not, it waits for a try that is under way.
func (a *attempt) hasChoice() bool {
	return a.link == nil && a.pick.Reason != routing.ReasonForced && a.pick.Reason != routing.ReasonLastResort
}

func (a *attempt) await(l *link) {
	if a.link != l {
		a.link, a.failures = l, l.failures
	}
}

// publish swaps the snapshot of ready links. The caller holds mu.
func (pe *peer) publish() {
	ready := make([]*link, 0, len(pe.links))
	for _, l := range pe.links {
		if l.state == connectivity.Ready {
			ready = append(ready, l)
		}
	}
	pe.ready.Store(&ready)
}

// drop takes a link out. The caller holds mu.
func (pe *peer) drop(l *link) {
	pe.links = slices.DeleteFunc(pe.links, func(o *link) bool { return o == l })
	pe.publish()
}

func (pe *peer) close(removed bool) {
	pe.mu.Lock()
	pe.closed = true
	pe.removed = removed
	var subs []balancer.SubConn
	for _, l := range pe.links {
		l.state = connectivity.Shutdown
		if l.sub != nil { // else open, which is under way, sees the state
			subs = append(subs, l.sub)
		}
	}
	pe.links = nil
	pe.publish()
	pe.mu.Unlock()
	for _, s := range subs {
		s.Shutdown()
	}
}

// idleExtras takes out the links beside the first that have no calls and had none since before.
func (pe *peer) idleExtras(before int64) (subs []balancer.SubConn) {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	for _, l := range slices.Clone(pe.links) {
		if l == pe.links[0] || l.state != connectivity.Ready || l.lastUsed.Load() >= before || l.conn.Load().streams.Load() > 0 {
			continue
		}
		l.state = connectivity.Shutdown
		pe.drop(l)
		subs = append(subs, l.sub)
	}
	return subs
}

func (pe *peer) streams() int64 {
	pe.mu.Lock()
	defer pe.mu.Unlock()
	var n int64
	for _, l := range pe.links {
		if c := l.conn.Load(); c != nil {
			n += c.streams.Load()
		}
	}
	return n
}

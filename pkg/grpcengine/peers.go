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

// maxConnects is how often one attempt of a call waits for its peer to be connected to, when the connection comes up and goes at once.
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
	// flaps is how many connections in a row were short-lived and of no use.
	flaps int
	// queue are the attempts that wait, the oldest call first; waiting is its length.
	queue   []*attempt
	waiting atomic.Int64
}

// free takes a stream on the ready link with the fewest, among those that have room.
func (pe *peer) free() (*link, *conn) {
	links := pe.ready.Load()
	if links == nil {
		return nil, nil
	}
	var best *link
	var least int64
	for _, l := range *links {
		c := l.conn.Load()
		if n := c.streams.Load(); c.hasRoom() && (best == nil || n < least) {
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
		return nil, nothing, retry // as another object of the pool
	}
	a.full = false
	if pe.hasRoom() { // since the caller looked
		return nil, nothing, retry
	}
	full := pe.in(connectivity.Ready)
	if l := a.link; l != nil && (l.failures != a.failures || l.state == connectivity.Shutdown) && full == nil {
		return nil, nothing, refused
	}
	if l := pe.in(connectivity.Connecting); l != nil {
		if l.failing && full == nil && a.mayLeave() {
			return nil, nothing, busy // as grpc-go's own balancers see it: failing until it is ready again
		}
		return nil, nothing, pe.await(a, l)
	}
	if full != nil && (len(pe.links) >= pe.pool.cfg.MaxConnectionsPerPeer || time.Now().Before(pe.fullUntil) ||
		full.conn.Load().limit.Load() == 0) { // a peer that takes no calls takes none on another connection
		if a.mayLeave() {
			return nil, nothing, busy
		}
		a.full = true
		return nil, nothing, pe.await(a, nil)
	}
	if l := pe.in(connectivity.TransientFailure); l != nil && full == nil {
		return nil, nothing, pe.failed(a, l)
	}
	// Beside one that is only full, a new connection that goes to an older call says nothing against the peer.
	if full == nil {
		if a.connects++; a.connects > maxConnects {
			return nil, nothing, refused
		}
	}
	if l := pe.in(connectivity.Idle); l != nil {
		l.state = connectivity.Connecting
		return l, dial, pe.await(a, l)
	}
	l := &link{peer: pe, state: connectivity.Connecting}
	pe.links = append(pe.links, l)
	return l, open, pe.await(a, l)
}

// failed decides what an attempt does whose peer's only connection has failed. The caller holds mu.
func (pe *peer) failed(a *attempt, l *link) verdict {
	if !l.paced {
		return refused
	}
	// It is soon connected to again.
	if a.mayLeave() {
		return busy
	}
	if a.flaps != pe.flaps {
		a.flaps = pe.flaps
		a.connects++
	}
	if a.connects > maxConnects || a.call.searchedTooLong() {
		return refused
	}
	return pe.await(a, l)
}

// await puts an attempt in the queue. It waits for a link to be connected, or for room only if that is nil. The caller holds mu.
func (pe *peer) await(a *attempt, l *link) verdict {
	if l != nil && a.link != l {
		a.link, a.failures = l, l.failures
	}
	pe.enqueue(a)
	if pe.hasRoom() { // a stream ended a moment ago; who ended it may not have seen us wait
		return retry
	}
	return wait
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
		l.stopRedial()
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
	pe.wakeAll()
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

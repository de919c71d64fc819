package relay

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// pool holds the connections to all peers.
type pool struct {
	e     *Engine
	peers sync.Map // *routing.Peer → *peer
}

// peer is one routing.Peer's connections and the calls that wait for one.
type peer struct {
	e *Engine
	// of is nil for the sidecar's own services.
	of   *routing.Peer
	dial func(context.Context) (net.Conn, error)

	// ready are the links that take calls: a snapshot that is swapped, never changed.
	ready   atomic.Pointer[[]*link]
	waiters atomic.Int32
	used    atomic.Int64 // when a call last came here, in Unix nanoseconds

	// mu guards the fields below. Nothing is called while it is held.
	mu      sync.Mutex
	waiting []*stream
	dialing bool
	links   int
	removed bool
}

// link is one connection to a peer.
type link struct {
	p *peer
	c *conn
	// streams counts the calls on it, and reserved places; most is the peer's SETTINGS_MAX_CONCURRENT_STREAMS.
	streams, most atomic.Int64
	open          atomic.Bool
	leaving       atomic.Bool
}

func (p *pool) peer(of *routing.Peer) *peer {
	if v, ok := p.peers.Load(of); ok {
		return v.(*peer)
	}
	v, _ := p.peers.LoadOrStore(of, &peer{e: p.e, of: of, dial: p.e.dialer(of.Address)})
	return v.(*peer)
}

// take gives the call to one of the peer's connections, or lets it wait for one. It is false when the peer takes no calls.
func (p *pool) take(s *stream, of *routing.Peer, c *conn) bool {
	return p.peer(of).take(s, c)
}

func (pe *peer) take(s *stream, c *conn) bool {
	pe.used.Store(time.Now().UnixNano())
	if l := pe.reserve(); l != nil && pe.give(s, l, c) {
		return true
	}
	pe.mu.Lock()
	if pe.removed {
		pe.mu.Unlock()
		return false
	}
	pe.waiting = append(pe.waiting, s)
	pe.waiters.Add(1)
	pe.mu.Unlock()
	s.waitUntilDeadline()
	// Room may have come up meanwhile; if there is none, another connection is opened.
	pe.startWaiting(c)
	return true
}

// give begins the call on a link on which a place was reserved. It is false when the link takes no more calls.
func (pe *peer) give(s *stream, l *link, c *conn) bool {
	switch s.begin(l.c) {
	case leaving:
		l.streams.Add(-1)
		return false
	case over:
		l.streams.Add(-1)
	case onItsWay:
		if c != nil {
			c.touch(l.c)
		} else {
			flush([]*conn{l.c})
		}
	}
	return true
}

// reserve finds the ready link with the fewest calls and takes a place on it; nil when all are full.
func (pe *peer) reserve() *link {
	links := pe.ready.Load()
	if links == nil {
		return nil
	}
	var best *link
	var least int64
	for _, l := range *links {
		if n := l.streams.Load(); best == nil || n < least {
			best, least = l, n
		}
	}
	if best == nil {
		return nil
	}
	if best.streams.Add(1) > best.most.Load() {
		best.streams.Add(-1)
		return nil
	}
	return best
}

// connect opens one connection and serves it to its end.
func (pe *peer) connect() {
	defer pe.e.tasks.Done()
	ctx, cancel := context.WithTimeout(pe.e.ctx, pe.e.cfg.ConnectTimeout)
	nc, err := pe.dial(ctx)
	cancel()
	if err != nil {
		pe.failed(fmt.Errorf("connect: %w", err))
		return
	}
	c := newConn(pe.e, nc)
	l := &link{p: pe, c: c}
	c.link = l
	l.most.Store(int64(c.settings.maxStreams))
	c.out = append(c.out, preface...)
	c.out = appendSettings(c.out, setting{settingEnablePush, 0}, setting{settingInitialWindowSize, recvStreamWindow},
		setting{settingMaxHeaderListSize, pe.e.cfg.Limits.HeaderBytes})
	c.out = appendWindowUpdate(c.out, 0, recvConnWindow-defaultWindow)
	_ = nc.SetReadDeadline(time.Now().Add(pe.e.cfg.ConnectTimeout)) // until its SETTINGS
	pe.e.track(c)
	flush([]*conn{c})
	err = c.serve()
	l.lost(err)
	pe.e.untrack(c)
}

// opened is called by the reader at the peer's first SETTINGS: from here on the link takes calls.
func (l *link) opened() {
	_ = l.c.nc.SetReadDeadline(time.Time{})
	l.open.Store(true)
	l.c.mu.Lock()
	l.most.Store(int64(l.c.settings.maxStreams))
	l.c.mu.Unlock()
	pe := l.p
	pe.mu.Lock()
	pe.dialing = false
	pe.links++
	removed := pe.removed
	if !removed {
		pe.publish(func(links []*link) []*link { return append(links, l) })
	}
	pe.mu.Unlock()
	if pe.of != nil {
		pe.e.cfg.Router.Connected(pe.of)
	}
	if removed {
		l.leave()
		return
	}
	pe.startWaiting(l.c)
}

// publish swaps the snapshot of ready links. The caller holds mu.
func (pe *peer) publish(change func([]*link) []*link) {
	var links []*link
	if have := pe.ready.Load(); have != nil {
		links = slices.Clone(*have)
	}
	links = change(links)
	pe.ready.Store(&links)
}

// startWaiting gives waiting calls to connections that have room. c is the connection on whose reader it runs, nil elsewhere.
func (pe *peer) startWaiting(c *conn) {
	for pe.waiters.Load() > 0 {
		l := pe.reserve()
		if l == nil {
			pe.another()
			return
		}
		pe.mu.Lock()
		if len(pe.waiting) == 0 {
			pe.mu.Unlock()
			l.streams.Add(-1)
			return
		}
		s := pe.waiting[0]
		pe.waiting[0] = nil
		pe.waiting = pe.waiting[1:]
		pe.waiters.Add(-1)
		pe.mu.Unlock()
		if !pe.give(s, l, c) {
			pe.mu.Lock()
			pe.waiting = append(pe.waiting, s)
			pe.waiters.Add(1)
			pe.mu.Unlock()
		}
	}
}

// another opens another connection for calls that wait while all are full.
func (pe *peer) another() {
	pe.mu.Lock()
	start := !pe.dialing && !pe.removed && len(pe.waiting) > 0 && pe.links < pe.e.cfg.MaxConnectionsPerPeer
	if start {
		pe.dialing = true
	}
	pe.mu.Unlock()
	if start {
		pe.e.tasks.Add(1)
		go pe.connect()
	}
}

// freed is called, with the connection's mu held, when a call has left it.
func (l *link) freed() {
	l.streams.Add(-1)
	if l.p.waiters.Load() > 0 {
		l.p.e.tasks.Add(1)
		go l.p.resume()
	}
}

func (pe *peer) resume() {
	defer pe.e.tasks.Done()
	pe.startWaiting(nil)
}

// limitChanged takes a new SETTINGS_MAX_CONCURRENT_STREAMS.
func (l *link) limitChanged(c *conn) {
	c.mu.Lock()
	l.most.Store(int64(c.settings.maxStreams))
	c.mu.Unlock()
	l.p.startWaiting(c)
}

// failed is the end of an attempt to connect: the calls that waited go elsewhere.
func (pe *peer) failed(err error) {
	pe.mu.Lock()
	pe.dialing = false
	var waiting []*stream
	// With another connection in use, they wait for that one.
	if pe.links == 0 {
		waiting, pe.waiting = pe.waiting, nil
		pe.waiters.Store(0)
	}
	pe.mu.Unlock()
	if pe.of != nil {
		pe.e.cfg.Logger.Debug("cannot connect to peer", "instance", pe.of.Key.String(), "address", pe.of.Address, "error", err)
		if len(waiting) == 0 {
			pe.e.cfg.Router.Refuse(pe.of)
		}
	}
	for _, s := range waiting {
		if s.ended.Load() {
			continue
		}
		if pe.of == nil {
			s.fail(nil, statusUnavailable, "the sidecar's own service is ending")
			s.finish(routing.Canceled, statusUnavailable)
			continue
		}
		s.again(nil, routing.Refused)
	}
}

// leave takes the link out: no new calls; it is closed when its last call has ended.
func (l *link) leave() {
	if l.leaving.Swap(true) {
		return
	}
	l.p.mu.Lock()
	l.p.publish(func(links []*link) []*link { return slices.DeleteFunc(links, func(o *link) bool { return o == l }) })
	if l.open.Load() {
		l.p.links--
	}
	l.p.mu.Unlock()
	l.c.mu.Lock()
	l.c.goingAway = true
	l.c.mu.Unlock()
}

// goAway handles the peer's GOAWAY on the connection's reader: calls above last were not processed and go elsewhere.
func (l *link) goAway(last uint32) {
	l.leave()
	c := l.c
	c.mu.Lock()
	var again []*half
	for id, h := range c.streams {
		if id > last {
			again = append(again, h)
		}
	}
	for _, h := range again {
		h.forget()
	}
	idle := len(c.streams) == 0
	if idle {
		c.hangUp = true
	}
	c.mu.Unlock()
	for _, h := range again {
		h.s.unprocessed(c, h)
	}
	c.touch(c)
	l.p.another()
}

// unprocessed handles a call that a peer has provably not processed.
func (s *stream) unprocessed(c *conn, h *half) {
	s.mu.Lock()
	mine, canRetry := s.up == h, !s.begun && !s.lost
	s.mu.Unlock()
	switch {
	case !mine || s.ended.Load():
	case canRetry:
		s.again(c, routing.Unprocessed)
	default:
		s.fail(c, statusUnavailable, "the peer is going away and has not processed the call; it was too large to be sent again")
		s.finish(routing.Unprocessed, statusUnavailable)
	}
}

// lost ends everything on a connection that has ended.
func (l *link) lost(err error) {
	c := l.c
	_ = c.nc.Close()
	wasOpen := l.open.Load()
	if wasOpen {
		l.leave()
	}
	c.mu.Lock()
	c.closed = err
	wrote := c.wrote
	all := make([]*half, 0, len(c.streams))
	for _, h := range c.streams {
		all = append(all, h)
	}
	for _, h := range all {
		h.forget()
	}
	c.mu.Unlock()
	if !wasOpen {
		l.p.failed(err)
	} else if len(all) > 0 && l.p.of != nil {
		l.p.e.cfg.Router.Refuse(l.p.of)
	}
	for _, h := range all {
		if h.sentAt > wrote {
			h.s.unprocessed(nil, h)
			continue
		}
		h.s.peerLost(h)
	}
	if wasOpen {
		l.p.startWaiting(nil)
		l.p.another()
	}
}

// peerLost ends a call whose peer's connection broke. It may have been processed, so it is not sent again.
func (s *stream) peerLost(h *half) {
	s.mu.Lock()
	mine := s.up == h
	p := s.pick.Peer
	s.mu.Unlock()
	if !mine || s.ended.Load() {
		return
	}
	who := "the sidecar's own service"
	if p != nil {
		who = fmt.Sprintf("%s at %s", p.Key, p.Address)
	}
	s.fail(nil, statusUnavailable, "peer lost: the connection to "+who+" broke during the call")
	s.finish(routing.Lost, statusUnavailable)
}

// remove closes the connections to a peer that the registry no longer shows, once their calls have ended.
func (p *pool) remove(of *routing.Peer) {
	pe := p.peer(of)
	pe.mu.Lock()
	pe.removed = true
	waiting := pe.waiting
	pe.waiting = nil
	pe.waiters.Store(0)
	pe.mu.Unlock()
	for _, s := range waiting {
		if !s.ended.Load() {
			s.again(nil, routing.Canceled)
		}
	}
	pe.closeIdle()
	p.peers.Delete(of)
}

// closeIdle has all links closed as soon as they have no calls.
func (pe *peer) closeIdle() {
	links := pe.ready.Load()
	if links == nil {
		return
	}
	for _, l := range *links {
		l.leave()
		l.c.mu.Lock()
		if len(l.c.streams) == 0 {
			l.c.hangUp = true
		}
		l.c.mu.Unlock()
		flush([]*conn{l.c})
	}
}

// waitUntilDeadline ends a call that waits when its deadline passes. While a peer has the call, the peer and the client see to it.
func (s *stream) waitUntilDeadline() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deadline.IsZero() || s.timer != nil || s.ended.Load() {
		return
	}
	s.timer = time.AfterFunc(time.Until(s.deadline), s.expire)
}

func (s *stream) expire() {
	s.mu.Lock()
	waits := s.up == nil
	s.mu.Unlock()
	if waits && !s.ended.Load() {
		s.fail(nil, statusDeadlineExceeded, "the deadline passed while the call waited for a connection to a peer")
		s.finish(routing.Canceled, statusDeadlineExceeded)
	}
}

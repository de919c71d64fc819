package relay

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// link is one connection to a peer.
type link struct {
	p    *peer
	c    *conn
	born int64 // on the engine's clock, as all times here

	// streams counts the calls on it, and reserved places; most is the peer's SETTINGS_MAX_CONCURRENT_STREAMS.
	streams, most atomic.Int64
	lastUsed      atomic.Int64
	answered      atomic.Bool // the peer has answered a call
	rtt           atomic.Int64

	// What tells a silent peer: see silence.go. lastHeard is when anything came, unanswered since when something waits for the peer (0:
	// nothing that was sent after its last word, or its last answer to a PING), pings how many PINGs went out since its last HEADERS or
	// DATA.
	lastHeard, unanswered atomic.Int64
	pings                 atomic.Int32
	// The following belong to the janitor: when a PING went out behind which nothing was heard, since when the peer is silent, since when
	// it takes nothing of what waits for it, and when it was last seen to read while it had much yet to read.
	pinged, suspect, stuck, reading int64
	// What is known of where the PING is: its end's place in what the connection writes, then in what the socket was given, and from when
	// on it has been there, or 0.
	pingEnd   int64
	pingPlace uint64
	arrived   int64
	// looked is when the janitor last looked, missed what of the time since the last acknowledgement does not count: see stall.go.
	looked, missed int64
	taken          uint64 // path.taken at the last look
	widest         uint32 // the widest window that its kernel ever offered

	// Guarded by p.mu. A link that is leaving takes no new calls and is closed when its last has ended; a silent one takes no new calls
	// as long as nothing is heard of it, nor does one in doubt, of which nothing else is said.
	leaving, silent, doubted bool
	counted                  bool // as useless
}

func (l *link) takesCalls() bool { return !l.leaving && !l.silent && !l.doubted }

func (l *link) stays() bool { return !l.leaving }

// connect opens one connection and serves it to its end. The caller has set dialing, and entered a task.
func (pe *peer) connect() {
	defer pe.e.tasks.Done()
	ctx, cancel := context.WithTimeout(pe.e.ctx, pe.e.cfg.ConnectTimeout)
	nc, err := pe.dial(ctx)
	cancel()
	if err != nil {
		pe.failed(err)
		return
	}
	c := newConn(pe.e, nc)
	l := &link{p: pe, c: c, born: pe.e.clock()}
	l.lastUsed.Store(l.born)
	c.link = l
	c.room(len(preface))
	c.out = append(c.out, preface...)
	c.putSettings(setting{settingEnablePush, 0}, setting{settingInitialWindowSize, recvStreamWindow},
		setting{settingMaxHeaderListSize, pe.e.cfg.Limits.HeaderBytes})
	c.putWindowUpdate(0, recvConnWindow-defaultWindow)
	_ = nc.SetReadDeadline(time.Now().Add(pe.e.cfg.ConnectTimeout)) // until its SETTINGS
	if pe.e.track(c) {
		defer pe.e.untrack(c)
		flush([]*conn{c})
	}
	err = c.serve()
	if !c.greeted {
		err = errors.Join(errors.New("no HTTP/2 SETTINGS came"), err)
	}
	l.ended(err)
}

// opened is called by the reader at the peer's first SETTINGS: from here on the link takes calls.
func (l *link) opened() {
	l.heard(l.c.now)
	l.readLimit()
	pe := l.p
	pe.mu.Lock()
	pe.dialing = false
	removed := pe.removed
	l.leaving = removed
	pe.links = append(pe.links, l)
	pe.publish()
	well := pe.failures == 0
	pe.mu.Unlock()
	if removed {
		l.close()
		return
	}
	// A peer whose connections were of no use so far has to answer a call before it is trusted again.
	if pe.of != nil && well {
		pe.e.cfg.Router.Connected(pe.of)
	}
	pe.startWaiting(l.c)
}

func (l *link) readLimit() {
	l.c.mu.Lock()
	l.most.Store(int64(l.c.settings.maxStreams))
	l.c.mu.Unlock()
}

// limitChanged takes a new SETTINGS_MAX_CONCURRENT_STREAMS.
func (l *link) limitChanged() {
	l.readLimit()
	l.p.startWaiting(l.c)
}

// began notes that a call was sent.
func (l *link) began(now int64) {
	l.lastUsed.Store(now)
	l.waits(now)
}

// served notes that the peer has begun to answer a call: it is well.
func (l *link) served() {
	if l.answered.Load() {
		return
	}
	l.answered.Store(true)
	l.p.mu.Lock()
	l.p.failures, l.p.nextDial = 0, 0
	l.p.mu.Unlock()
}

// freed gives a place back: a call has left the connection, or does not need the place. The connection's mu may be held.
func (l *link) freed() {
	l.streams.Add(-1)
	if pe := l.p; pe.waiters.Load() > 0 && !pe.resuming.Swap(true) && pe.e.enter() {
		go pe.resume()
	}
}

func (pe *peer) resume() {
	defer pe.e.tasks.Done()
	pe.resuming.Store(false) // who frees a place from now on starts another
	pe.startWaiting(nil)
}

// leave takes the link out: no new calls; it is closed when its last call has ended.
func (l *link) leave() {
	l.p.mu.Lock()
	was := l.leaving
	l.leaving = true
	l.p.publish()
	l.p.mu.Unlock()
	if !was {
		l.close()
	}
}

// close has the connection closed as soon as it has no calls.
func (l *link) close() {
	c := l.c
	c.mu.Lock()
	c.goingAway = true
	if c.streams.len() == 0 {
		c.hangUpSoon()
	}
	c.mu.Unlock()
	flush([]*conn{c})
}

// goAway handles the peer's GOAWAY on the connection's reader: calls above last were not processed and go elsewhere.
func (l *link) goAway(last uint32) {
	l.leave()
	l.useless(errGoAway)
	c := l.c
	c.mu.Lock()
	var again []*half
	for h := range c.streams.all() {
		if h.id > last {
			again = append(again, h)
		}
	}
	slices.SortFunc(again, func(a, b *half) int { return int(a.id) - int(b.id) })
	for _, h := range again {
		h.forget()
	}
	c.mu.Unlock()
	for _, h := range again {
		h.s.unprocessed(c, h, reasonUnprocessed)
	}
	c.touch(c)
	l.p.settle(c)
}

// steadyAfter is how long a connection on which no call was answered must have lived so that another may be opened at once.
const steadyAfter = int64(5 * time.Second)

// errGoAway is why a connection ends that the peer has asked us to leave.
var errGoAway = errors.New("the peer sent GOAWAY")

// useless counts a connection that the peer has ended before it answered any call on it: the next is put off, and calls go elsewhere.
func (l *link) useless(why error) {
	pe := l.p
	if l.answered.Load() || pe.e.clock()-l.born >= steadyAfter {
		return
	}
	pe.mu.Lock()
	counted := l.counted
	l.counted = true
	if !counted {
		pe.pace()
	}
	first := pe.failures == 1
	pe.mu.Unlock()
	if counted || pe.of == nil {
		return
	}
	pe.e.cfg.Router.Refuse(pe.of)
	if first {
		pe.e.cfg.Logger.Warn("peer closes connections soon after it accepts them", "service", pe.of.Key.Service,
			"instance", pe.of.Key.ID, "address", pe.of.Address, "error", why)
	}
}

// ended ends everything on a connection that has ended.
func (l *link) ended(err error) {
	c, pe := l.c, l.p
	_ = c.nc.Close()
	if !c.greeted {
		c.mu.Lock()
		c.closed = err
		c.account()
		c.mu.Unlock()
		pe.failed(err)
		return
	}
	pe.mu.Lock()
	gone := l.leaving
	l.leaving = true
	pe.links = slices.DeleteFunc(pe.links, func(o *link) bool { return o == l })
	pe.publish()
	pe.mu.Unlock()
	switch {
	case errors.Is(err, errSilent):
		pe.mu.Lock()
		pe.pace() // it may be gone for good: the next connection is tried, and no call waits for it
		pe.mu.Unlock()
	case !gone:
		l.useless(err)
	}
	c.mu.Lock()
	c.closed = err
	wrote := c.mayHaveWritten()
	all := c.forgetAll()
	c.account()
	c.mu.Unlock()
	if pe.of != nil && len(all) > 0 {
		pe.e.cfg.Router.Refuse(pe.of)
	}
	for _, h := range all {
		if h.sentAt > wrote {
			h.s.unprocessed(nil, h, reasonNotSent)
			continue
		}
		h.s.peerLost(h, err)
	}
	pe.settle(nil)
}

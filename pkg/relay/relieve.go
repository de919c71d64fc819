package relay

import (
	"errors"
	"time"
)

const (
	// unreadMost is more than DATA alone can fill of what is written ahead of a socket (outHigh twice, once being written). Where there
	// is more it is header blocks, of which the other side reads none and brings about ever more. Such a connection may end if its socket
	// has taken nothing for unreadFor, or if it holds half of all that is allowed. (Where little is allowed, half of it is much.)
	unreadMost = 256 << 10
	unreadFor  = int64(250 * time.Millisecond)
	// stuckFor is how long a connection's other side has read nothing that may end for what DATA can fill. Its kernel tells of what it
	// reads in steps of 64 KiB (an MSS of loopback) or of a sixteenth of its buffer: who reads 100 KB/s shows it every 0.7 s at best.
	stuckFor = 2 * int64(time.Second)
	// restFor is how long nobody looks again where nothing could be ended, unless a restShare of what is allowed comes on top.
	restFor   = int64(5 * time.Millisecond)
	restShare = 16
)

const (
	whyCall    = "the client held the most of what is not taken, and the call the most of that"
	whyUnread  = "the connection held the most: its other side does not read"
	whyEndless = "too much is held, and the connection's other side does not end a header block"
)

// rest is until when, and up to how much, nothing is to be ended. It belongs to who has set relieving.
type rest struct{ until, upTo int64 }

// relieve ends what holds the most until no more is held than is allowed (holders.go says who that is). One goroutine does it at a time;
// the others go on, and what they add is bounded by the windows that they have given.
func (e *Engine) relieve() {
	if !e.relieving.CompareAndSwap(false, true) {
		return
	}
	defer e.relieving.Store(false)
	bound := e.cfg.Limits.BufferedBytes
	for {
		held := e.buffered.Load()
		if held <= bound || held <= e.rest.upTo && e.clock() < e.rest.until {
			return
		}
		if l := e.look(); !l.relieve(e, bound) {
			// What is held is on its way into sockets already, or it has yet to show that nobody reads it.
			e.rest = rest{until: e.clock() + restFor, upTo: held + bound/restShare}
			return
		}
	}
}

// relieve ends the largest holders of one look, and tells whether there was anything to end.
func (l *look) relieve(e *Engine, bound int64) (ended bool) {
	for e.buffered.Load()-l.leaving > bound {
		h, why := l.next()
		switch {
		case h == nil:
			return ended
		case why != whyCall:
			if l.close(h, exceeded(limitBuffered, bound, why)) {
				e.hit(limitBuffered)
				ended = true
			}
		default:
			if w := h.takeLargest(); w.waitsStill() {
				e.hit(limitBuffered)
				w.half.s.evict(exceeded(limitBuffered, bound, why))
				ended = true
			}
			if len(h.waits) == 0 {
				return ended // it may have more by now, and must not be passed over for that
			}
		}
	}
	return ended
}

// evict ends a call to free what it holds.
func (s *stream) evict(message string) {
	up, mine := s.claim()
	s.cut(nil, statusResourceExhausted, message)
	s.abandon(nil, up, codeCancel)
	if mine {
		s.finish(nil, outcomeOfOurs, statusResourceExhausted)
	}
}

// unsent is how much waits for the socket. The caller holds mu.
func (c *conn) unsent() int {
	if c.closed != nil {
		return 0
	}
	return len(c.out) + int(c.base-c.wrote)
}

// unload closes a connection that still holds more than half of what it was seen to hold, and frees that. The reader finds out and ends
// the streams.
func (c *conn) unload(seen int, why string) bool {
	err := errors.New(why)
	c.mu.Lock()
	if c.closed != nil || c.unsent()+c.blockBytes <= seen/2 {
		c.mu.Unlock()
		return false
	}
	c.closed, c.out = err, nil
	c.account()
	c.mu.Unlock()
	c.sever(err)
	return true
}

// account keeps the engine's sum of what is held true for this connection. The caller holds mu. Where everything was written at
// once, as it usually is, nothing has changed. A connection that has ended holds nothing, whatever a last write does to its counts.
func (c *conn) account() {
	held := int64(len(c.out)) + c.base - c.wrote + int64(c.pendingBytes+c.blockBytes)
	if c.closed != nil {
		held = 0
	}
	if held != c.accounted {
		c.e.buffered.Add(held - c.accounted)
		c.accounted = held
	}
}

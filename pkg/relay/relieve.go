package relay

import (
	"errors"
	"time"
)

const (
	// unreadMost is more than DATA alone can fill of what is written ahead of a socket (outHigh twice, once being written). Where there
	// is more it is header blocks, of which the other side reads none and brings about ever more. Such a connection ends if its socket
	// has taken nothing for unreadFor, or if it holds half of all that is allowed. (Where little is allowed, half of it is much.)
	unreadMost = 256 << 10
	unreadFor  = int64(250 * time.Millisecond)
	// stuckFor is how long a socket has taken nothing that ends for it when all that is held waits for sockets, and is too much.
	stuckFor = int64(time.Second)
)

// relieve ends what holds the most until no more is held than is allowed: calls, as long as DATA waits on one; a connection, where its
// other side does not read, or has begun a header block and does not end it. One goroutine does it at a time; the others go on, and what they add is bounded by the windows that they
// have given.
func (e *Engine) relieve() {
	if !e.relieving.CompareAndSwap(false, true) {
		return
	}
	defer e.relieving.Store(false)
	bound := e.cfg.Limits.BufferedBytes
	for e.buffered.Load() > bound {
		h, c := e.largest()
		switch {
		case c != nil:
			e.hit(limitBuffered)
			c.unload(exceeded(limitBuffered, bound, "the connection held the most: its other side does not read, or does not end a header block"))
		case h != nil:
			e.hit(limitBuffered)
			h.s.evict(exceeded(limitBuffered, bound, "the call held the most of what its other side did not take"))
		default:
			return // what is held is on its way into sockets already
		}
	}
}

// largest finds what is to end next: the half with the most bytes that wait, or a connection instead.
func (e *Engine) largest() (*half, *conn) {
	var most *half
	var unread, stuck, endless *conn
	var waits, unreads, sticks, blocks int
	now, much := e.clock(), e.cfg.Limits.BufferedBytes/2
	few := int(min(unreadMost, much))
	for _, c := range e.all(func(*conn) bool { return true }) {
		c.mu.Lock()
		if c.pendingBytes > waits {
			for h := range c.streams.all() {
				if n := h.held(); n > waits {
					most, waits = h, n
				}
			}
		}
		n, idle := c.unsent(), int64(0)
		if c.tookAt != 0 {
			idle = now - c.tookAt
		}
		if n > max(unreads, few) && (idle >= unreadFor || int64(n) > much) {
			unread, unreads = c, n
		}
		if n > sticks && idle >= stuckFor {
			stuck, sticks = c, n
		}
		if c.blockBytes > blocks && c.closed == nil {
			endless, blocks = c, c.blockBytes
		}
		c.mu.Unlock()
	}
	switch {
	case blocks > max(unreads, waits):
		return nil, endless
	case unreads > waits:
		return nil, unread
	case most != nil:
		return most, nil
	}
	return nil, stuck
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

// unload closes a connection and frees what it holds. The reader finds out and ends the streams.
func (c *conn) unload(why string) {
	err := errors.New(why)
	c.mu.Lock()
	c.closed, c.out = err, nil
	c.account()
	c.mu.Unlock()
	c.sever(err)
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

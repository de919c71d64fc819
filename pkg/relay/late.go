package relay

import (
	"sync"
	"time"
)

// A PING that came along with HEADERS or DATA is answered along with what those bring about, mostly the response, and not in a segment
// of its own: grpc-go sends one with nearly every call, on both sides, and a write that wakes the other side for 17 octets costs as
// much as the one that passes the call on. RFC 9113 §6.7 wants answers before other frames, which they still are: they stand in front
// in the buffer. lateWithin is how long one may wait for company; a PING that came without any is answered at once.
const lateWithin = 5 * time.Millisecond

// late are the connections with an answer that waits for company.
type late struct {
	mu sync.Mutex
	// The fields below are guarded by mu. Nothing is locked under it.
	conns []*conn
	timer *time.Timer
}

// answered is called by the reader at the end of a batch in which PINGs were answered.
func (c *conn) answered() {
	c.answers = false
	switch {
	case len(c.touched) == 0:
		c.touch(c)
	case !c.touches(c):
		c.e.late.add(c)
	}
}

// add has a connection flushed within lateWithin.
func (l *late) add(c *conn) {
	if c.isLate.Swap(true) {
		return // who clears it flushes afterwards
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	switch {
	case len(l.conns) > 1:
	case l.timer == nil:
		l.timer = time.AfterFunc(lateWithin, c.e.flushAnswers)
	default:
		l.timer.Reset(lateWithin)
	}
}

// flushAnswers flushes those that have found no company.
func (e *Engine) flushAnswers() {
	if !e.enter() {
		return
	}
	defer e.tasks.Done()
	e.late.mu.Lock()
	conns := e.late.conns
	e.late.conns = nil
	e.late.mu.Unlock()
	for _, c := range conns {
		c.isLate.Store(false)
	}
	flush(conns)
}

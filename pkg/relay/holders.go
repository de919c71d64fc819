package relay

import (
	"cmp"
	"slices"
)

// Who is to give way at the bound on what is held is settled by what each holds in sum, not by the size of a single call: or many small
// calls of one client would stay, and a single larger one of another would go.
//
//   - A client holds what waits on its calls, for itself and for the peers that have them, what its socket has not taken, and what has come
//     of a header block that is not whole. Of the client that holds the most, the largest call ends; or its connection, where most of what
//     it holds is unread, or such a block: no call's end would free that.
//   - A peer holds what its socket has not taken, once it seems not to read. What waits for a peer's windows its clients hold: they go on
//     sending, and it is their calls that can end.
//   - Header blocks that are not whole are together one more holder, whoever they are of. No call goes on by them, a whole one is there
//     within milliseconds, and they cost nobody a call who sends them over many connections, each with little. The largest goes first.
//
// A holder of which nothing can end yet, since its socket may be about to take what it holds, is passed over.

// holder is a connection and what is held because of it.
type holder struct {
	c      *conn
	calls  int
	unsent int
	block  int
	unread bool // its other side does not read, so the connection may end for what is unsent
	waits  []waitingHalf
	sorted bool
}

// waitingHalf is a half on which octets wait.
type waitingHalf struct {
	half *half
	n    int
}

func (h *holder) sum() int { return h.calls + h.unsent + h.block }

// lost is what only the end of the connection frees.
func (h *holder) lost() int {
	if h.unread {
		return h.unsent + h.block
	}
	return h.block
}

// add has the holder hold what waits on a half.
func (h *holder) add(half *half, n int) {
	h.calls += n
	h.waits = append(h.waits, waitingHalf{half, n})
}

// takeLargest takes the largest call out.
func (h *holder) takeLargest() waitingHalf {
	if !h.sorted {
		h.sorted = true
		slices.SortFunc(h.waits, func(a, b waitingHalf) int { return cmp.Compare(a.n, b.n) })
	}
	last := len(h.waits) - 1
	w := h.waits[last]
	h.waits = h.waits[:last]
	h.calls -= w.n
	return w
}

// waitsStill tells whether the call has not gone on meanwhile.
func (w *waitingHalf) waitsStill() bool {
	w.half.conn.mu.Lock()
	defer w.half.conn.mu.Unlock()
	return w.half.conn.closed == nil && w.half.held() > w.n/2
}

// look is what all connections were seen to hold.
type look struct {
	holders []holder
	blocks  int
	// leaving is what calls hold whose client's connection was ended: its reader is about to free it.
	leaving int64
}

// look looks at all connections, one after the other.
func (e *Engine) look() *look {
	conns := e.all(func(*conn) bool { return true })
	l := &look{holders: make([]holder, len(conns))}
	of := make(map[*conn]*holder, len(conns))
	for i, c := range conns {
		l.holders[i].c = c
		of[c] = &l.holders[i]
	}
	now, much := e.clock(), int(e.cfg.Limits.BufferedBytes/2)
	var ended []*holder
	for i, c := range conns {
		h := &l.holders[i]
		c.mu.Lock()
		if c.closed != nil {
			c.mu.Unlock()
			ended = append(ended, h)
			continue
		}
		if c.pendingBytes > 0 {
			for half := range c.streams.all() {
				// Neither the call of a half nor the client of a call changes, so no more than this lock is needed.
				if client := of[half.s.down.conn]; client != nil && half.held() > 0 {
					client.add(half, half.held())
				}
			}
		}
		h.unsent, h.block = c.unsent(), c.blockBytes
		tookAt := c.tookAt
		c.mu.Unlock()
		l.blocks += h.block
		h.judge(now, tookAt, much)
	}
	for _, h := range ended {
		l.leave(h)
	}
	return l
}

// judge settles whether the other side reads.
func (h *holder) judge(now, tookAt int64, much int) {
	idle := int64(0)
	if tookAt != 0 {
		idle = now - tookAt
	}
	slow := idle >= unreadFor
	switch {
	case h.unsent == 0:
	case h.unsent > much, slow && h.unsent > min(unreadMost, much):
		h.unread = true
	case slow:
		h.unread = min(idle, h.c.notRead(now)) >= stuckFor
	case h.c.link != nil:
		h.unsent = 0 // on its way
	}
}

// reading is up to where a connection's other side had read, as far as its kernel tells, and since when. It belongs to who has set
// Engine.relieving.
type reading struct {
	taken uint64
	since int64
}

// notRead is for how long, as far back as somebody looked, the other side has read nothing. A socket's own word comes late: once full,
// it takes more only when a third of what it holds is gone, which may be megabytes.
func (c *conn) notRead(now int64) int64 {
	p := c.path()
	if !p.known {
		return now
	}
	if c.reading.since == 0 || c.reading.taken != p.taken {
		c.reading = reading{p.taken, now}
	}
	return now - c.reading.since
}

// next is the holder that is to give way next, and why; nil when there is none.
func (l *look) next() (next *holder, why string) {
	var endless *holder
	most, block := 0, 0
	for i := range l.holders {
		h := &l.holders[i]
		if h.block > block {
			endless, block = h, h.block
		}
		if n := h.sum(); n > most && (len(h.waits) > 0 || h.lost() > n/2) {
			next, most = h, n
		}
	}
	switch {
	case l.blocks > most:
		return endless, whyEndless
	case next == nil:
		return nil, ""
	case next.lost() <= most/2 && len(next.waits) > 0:
		return next, whyCall
	case next.unread && next.unsent >= next.block:
		return next, whyUnread
	}
	return next, whyEndless
}

// close ends a holder's connection. What its calls hold elsewhere goes with it.
func (l *look) close(h *holder, why string) bool {
	ended := h.c.unload(h.lost(), why)
	if ended {
		l.leave(h)
	}
	l.blocks -= h.block
	*h = holder{c: h.c}
	return ended
}

// leave notes what waits on other connections for the calls of one that was ended.
func (l *look) leave(h *holder) {
	for _, w := range h.waits {
		if w.half.conn != h.c {
			l.leaving += int64(w.n)
		}
	}
	h.waits, h.calls = nil, 0
}

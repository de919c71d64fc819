package relay

import (
	"slices"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
)

// backlog is what waits on a half for a window or for room. Nothing of it is encoded ahead of its turn. The caller of all that follows
// holds conn.mu.
type backlog struct {
	queue
	// from is where the octets came from; for the first free ones no credit is to be returned.
	from     *half
	free     int
	trailers []hpack.Field // behind the octets
	// trailerBytes is what trailers take.
	trailerBytes int
}

// waiting is how many octets wait.
func (h *half) waiting() int {
	if h.backlog == nil {
		return 0
	}
	return h.backlog.n
}

// held is how much memory what waits takes.
func (h *half) held() int {
	if h.backlog == nil {
		return 0
	}
	return h.backlog.n + h.backlog.trailerBytes
}

// waitTrailers has trailers wait behind octets that do.
func (h *half) waitTrailers(fields []hpack.Field) {
	b := h.backlog
	b.trailers, b.trailerBytes = keepFields(fields)
	h.conn.pendingBytes += b.trailerBytes
	h.end = true
}

// keepFields gives fields that stay valid when their decoder goes on, and what they take.
func keepFields(fields []hpack.Field) (kept []hpack.Field, size int) {
	kept = make([]hpack.Field, len(fields))
	for i, f := range fields {
		if f.How != hpack.Indexed {
			if f.Value = strings.Clone(f.Value); !f.NameStays {
				f.Name = strings.Clone(f.Name)
			}
		}
		kept[i] = f
		size += fieldOverhead + len(f.Name) + len(f.Value)
	}
	return kept, size
}

// wait has octets wait, behind those that do.
func (h *half) wait(p []byte, from *half) {
	if h.backlog == nil {
		h.backlog = new(backlog)
	}
	b := h.backlog
	if from == nil {
		b.free += len(p) // only ever in front of octets that give credit
	} else {
		b.from = from
	}
	b.push(p)
	h.conn.pendingBytes += len(p)
}

// enqueue has a half that waits looked at when the connection's window opens or its socket takes more. While it is the stream's own
// window that is shut, its WINDOW_UPDATE does.
func (h *half) enqueue() {
	if !h.queued && h.sendWindow() > 0 {
		h.queued = true
		h.conn.blocked = append(h.conn.blocked, h)
	}
}

// resumeBlocked lets those that wait for the connection go on, in turn.
func (c *conn) resumeBlocked() {
	if len(c.blocked) == 0 {
		return
	}
	n := len(c.blocked)
	for i := range n {
		if c.sendWindow <= 0 || len(c.out) >= outHigh {
			c.blocked = slices.Delete(c.blocked, 0, i)
			return
		}
		h := c.blocked[i]
		h.queued = false
		if h.gone {
			c.stale--
			continue
		}
		h.resume() // it may be appended to blocked again
	}
	c.blocked = slices.Delete(c.blocked, 0, n)
}

// unblock notes that a half which is queued has ended. It stays in blocked until its turn comes, or until such are the most of those
// that are there: a window may stay shut for long.
func (c *conn) unblock() {
	if c.stale++; c.stale < 64 || 2*c.stale < len(c.blocked) {
		return
	}
	c.stale = 0
	c.blocked = slices.DeleteFunc(c.blocked, func(h *half) bool { return h.gone })
}

// resume sends what waited.
func (h *half) resume() {
	if h.gone || h.waiting() == 0 {
		return
	}
	b := h.backlog
	for b.n > 0 {
		front := b.front()
		last := len(front) == b.n
		rest := h.sendNow(front, last && h.end && b.trailers == nil, b.from, b.free)
		if h.gone {
			return // it has ended, and was discarded
		}
		sent := len(front) - len(rest)
		h.conn.pendingBytes -= sent
		b.free = max(0, b.free-sent)
		b.pop(sent)
		if len(rest) > 0 {
			h.enqueue()
			return
		}
	}
	if b.trailers != nil && !h.sentEnd {
		trailers := b.trailers
		h.conn.pendingBytes -= b.trailerBytes
		b.trailers, b.trailerBytes, h.end = nil, 0, false
		h.conn.appendBlock(h.id, trailers, true)
		h.ended()
	}
}

// discard throws away what waits: nobody is to get it any more.
func (h *half) discard() {
	if n := h.held(); n > 0 {
		h.conn.pendingBytes -= n
		h.backlog.clear()
		h.conn.account()
	}
	h.backlog, h.end = nil, false
}

package relay

import "github.com/flyproxy/flyproxy/pkg/relay/hpack"

// half is a stream on one connection. A call has two: one towards its client, one towards its peer; after a retry the latter is
// another one.
type half struct {
	s    *stream
	conn *conn
	id   uint32
	down bool

	// unprobed and probeAfter belong to the reader: see probe.go.
	unprobed, probeAfter int64

	// The fields below are guarded by conn.mu.

	// Towards the other side.
	// window is what it lets us send on this stream, less the initial window that is in force (RFC 9113 §6.9.2): so a change of that
	// costs the same however many streams there are. See sendWindow.
	window   int64
	backlog  *backlog // what waits for a window or for room; nil while nothing ever did
	end      bool     // END_STREAM follows what waits
	queued   bool     // in conn.blocked
	sentEnd  bool
	stop     bool // reset with stopCode once END_STREAM was sent
	stopCode errCode
	sentAt   int64 // the place in all that is written here behind which the request's headers have been sent

	// From the other side.
	recvWindow int64
	recvMax    int64  // what recvWindow is when all credit is returned
	owed       uint32 // credit not yet returned
	recvEnd    bool
	gone       bool // out of conn.streams: nothing is sent or expected any more
}

// sendWindow is what the other side lets us send on this stream; it may be negative. The caller holds conn.mu, here and in all that
// follows.
func (h *half) sendWindow() int64 { return h.window + h.conn.settings.initialWindow }

// widen takes a WINDOW_UPDATE for the stream; false means that the window would be too large.
func (h *half) widen(n int64) bool {
	if h.sendWindow()+n > maxWindow {
		return false
	}
	h.window += n
	h.conn.widest = max(h.conn.widest, h.window)
	return true
}

// sendHeaders sends a header block. Behind bytes that wait, it waits too, so that blocks are encoded in the order in which they are
// sent; that can only be trailers.
func (h *half) sendHeaders(fields []hpack.Field, end bool) {
	if h.gone || h.sentEnd || h.end {
		return
	}
	if h.waiting() > 0 {
		h.waitTrailers(fields)
		return
	}
	h.conn.appendBlock(h.id, fields, end)
	if h.sentAt == 0 {
		h.sentAt = h.conn.base + int64(len(h.conn.out))
	}
	if end {
		h.ended()
	}
}

// appendBlock encodes a block into HEADERS and CONTINUATION frames.
func (c *conn) appendBlock(id uint32, fields []hpack.Field, end bool) {
	c.room(0)
	var none [frameHeaderLen]byte
	at := len(c.out)
	c.out = append(c.out, none[:]...)
	c.out = c.enc.Begin(c.out)
	for i := range fields {
		c.out = c.enc.Append(c.out, fields[i])
	}
	flags := byte(flagEndHeaders)
	if end {
		flags |= flagEndStream
	}
	size := len(c.out) - at - frameHeaderLen
	if size <= c.settings.maxFrame {
		appendFrameHeader(c.out[at:at], size, frameHeaders, flags, id)
		return
	}
	// Too long for one frame: split it.
	block := append([]byte(nil), c.out[at+frameHeaderLen:]...)
	c.out = c.out[:at]
	kind := byte(frameHeaders)
	flags &^= flagEndHeaders
	for len(block) > 0 {
		n := min(len(block), c.settings.maxFrame)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		c.out = append(appendFrameHeader(c.out, n, kind, flags, id), block[:n]...)
		block = block[n:]
		kind, flags = frameContinuation, 0
	}
}

// sendData sends bytes that came from another half, as far as the windows allow; the rest waits. A nil from means that nobody gets
// credit for them. It tells how many bytes nobody wants any more.
func (h *half) sendData(p []byte, end bool, from *half) (dropped int) {
	if h.gone || h.sentEnd || h.end {
		return len(p)
	}
	if h.waiting() == 0 {
		p = h.sendNow(p, end, from, 0)
		if len(p) == 0 {
			return 0
		}
	}
	h.wait(p, from)
	h.end = h.end || end
	h.enqueue()
	return 0
}

// sendNow sends what the windows and the room in out allow, and gives the rest. An empty p with end is sent in any case.
func (h *half) sendNow(p []byte, end bool, from *half, free int) []byte {
	c := h.conn
	for {
		n := 0
		if len(p) > 0 {
			if n = int(min(int64(len(p)), h.sendWindow(), c.sendWindow, int64(c.settings.maxFrame))); n <= 0 || len(c.out) >= outHigh {
				return p
			}
		} else if !end {
			return nil
		}
		last := n == len(p)
		var flags byte
		if last && end {
			flags = flagEndStream
		}
		c.room(frameHeaderLen + n)
		c.out = append(appendFrameHeader(c.out, n, frameData, flags, h.id), p[:n]...)
		unpaid := min(n, free)
		free -= unpaid
		if paid := n - unpaid; paid > 0 && from != nil {
			c.owe(from, paid)
		}
		h.window -= int64(n)
		c.sendWindow -= int64(n)
		p = p[n:]
		if last {
			if end {
				h.ended()
			}
			return nil
		}
	}
}

// owe notes that credit for n octets is due once all that is in out was written.
func (c *conn) owe(from *half, n int) {
	upTo := c.base + int64(len(c.out))
	if last := len(c.credits) - 1; last >= 0 && c.credits[last].from == from && c.credits[last].upTo > c.base {
		c.credits[last].upTo = upTo
		c.credits[last].n += uint32(n)
		return
	}
	c.credits = append(c.credits, credit{upTo: upTo, from: from, n: uint32(n)})
}

// ended notes that END_STREAM was sent.
func (h *half) ended() {
	h.sentEnd = true
	h.end = false
	switch {
	case h.recvEnd:
		h.forget()
	case h.stop:
		h.reset(h.stopCode)
	}
}

// resetAtEnd resets the half once END_STREAM was sent, unless the other side ends its part before: it need not send on.
func (h *half) resetAtEnd(code errCode) {
	switch {
	case h.gone || h.recvEnd:
	case h.sentEnd:
		h.reset(code)
	default:
		h.stop, h.stopCode = true, code
	}
}

// received notes that the other side has ended its side of the stream.
func (h *half) received() {
	h.recvEnd = true
	if h.sentEnd {
		h.forget()
	}
}

// forget takes the half off its connection.
func (h *half) forget() {
	if h.gone {
		return
	}
	h.gone = true
	h.discard()
	c := h.conn
	if h.queued {
		c.unblock()
	}
	c.streams.remove(h)
	if c.streams.len() == 0 {
		c.idleSince = 0
		if c.goingAway && !c.hangUp && c.closed == nil {
			c.hangUpSoon()
			c.e.flushLater(c) // who took the last stream away may have nothing to flush here
		}
	}
	if c.link != nil {
		c.link.freed()
	}
}

// flushLater flushes a connection from a goroutine of its own.
func (e *Engine) flushLater(c *conn) {
	if e.enter() { // else the engine is closed, and so is the connection
		go c.flushAlone()
	}
}

func (c *conn) flushAlone() {
	defer c.e.tasks.Done()
	flush([]*conn{c})
}

// reset ends the half with RST_STREAM.
func (h *half) reset(code errCode) {
	if h.gone {
		return
	}
	h.conn.putRST(h.id, code)
	h.conn.resetsSent.add(h.id)
	h.forget()
}

// returnCredit is credit for a caller that holds no connection's lock.
func (h *half) returnCredit(n uint32) bool {
	h.conn.mu.Lock()
	defer h.conn.mu.Unlock()
	return h.credit(n)
}

// credit lets the other side send n octets more, since as many were passed on. It tells whether there is now something to be
// flushed on the half's connection. In batches of half a window, so that few octets cost little, but of maxCreditBatch at most: what is
// held back is missing from a window that can grow no further.
func (h *half) credit(n uint32) bool {
	if h.gone || h.recvEnd {
		return false
	}
	h.owed += n
	if int64(h.owed) < min(h.recvMax/2, maxCreditBatch) {
		return false
	}
	h.pay(0)
	return true
}

// pay sends the credit that is owed, and more where the window grows.
func (h *half) pay(more int64) {
	n := int64(h.owed) + more
	h.conn.putWindowUpdate(h.id, uint32(n))
	h.recvWindow += n
	h.recvMax += more
	h.owed = 0
}

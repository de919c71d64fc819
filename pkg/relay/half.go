package relay

import "github.com/flyproxy/flyproxy/pkg/relay/hpack"

// half is a stream on one connection. A call has two: one towards its client, one towards its peer; after a retry the latter is
// another one.
type half struct {
	s    *stream
	conn *conn
	id   uint32
	down bool

	// The fields below are guarded by conn.mu.

	// Towards the other side.
	window   int64  // what it lets us send on this stream; may be negative (RFC 9113 §6.9.2)
	pending  []byte // what waits for a window; nothing is encoded ahead of its turn
	from     *half  // where pending came from
	trailers []hpack.Field
	end      bool // END_STREAM follows pending and trailers
	queued   bool // in conn.blocked
	sentEnd  bool
	sentAt   int64 // the place in all that is written here behind which the request's headers have been sent

	// From the other side.
	recvWindow int64
	owed       uint32 // credit not yet returned
	recvEnd    bool
	gone       bool // out of conn.streams: nothing is sent or expected any more
}

// sendHeaders sends a header block. Behind bytes that wait for a window it waits too, so that blocks are encoded in the order in
// which they are sent. The fields are copied where they wait.
func (h *half) sendHeaders(fields []hpack.Field, end bool) {
	if h.gone || h.sentEnd {
		return
	}
	if len(h.pending) > 0 || h.end {
		h.trailers, h.end = cloneFields(fields), true
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

// appendBlock encodes a block into HEADERS and CONTINUATION frames. The caller holds mu.
func (c *conn) appendBlock(id uint32, fields []hpack.Field, end bool) {
	at := len(c.out)
	c.out = append(c.out, make([]byte, frameHeaderLen)...)
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

// sendData sends bytes that came from another half, as far as the windows allow; the rest waits.
func (h *half) sendData(p []byte, end bool, from *half) (dropped int) {
	if h.gone || h.sentEnd || h.end {
		return len(p)
	}
	if len(h.pending) == 0 {
		p = h.sendNow(p, end, from)
		if len(p) == 0 {
			return 0
		}
	}
	h.pending = append(h.pending, p...)
	h.from, h.end = from, h.end || end
	h.enqueue()
	return 0
}

// sendNow sends what the windows allow and gives the rest. An empty p with end is sent in any case.
func (h *half) sendNow(p []byte, end bool, from *half) []byte {
	c := h.conn
	for {
		n := 0
		if len(p) > 0 {
			if n = int(min(int64(len(p)), h.window, c.sendWindow, int64(c.settings.maxFrame))); n <= 0 {
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
		c.out = append(appendFrameHeader(c.out, n, frameData, flags, h.id), p[:n]...)
		if n > 0 && from != nil {
			c.credits = append(c.credits, credit{upTo: c.base + int64(len(c.out)), from: from, n: uint32(n)})
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

// enqueue has the half looked at when the connection's window opens. The stream's own window is looked at when it opens.
func (h *half) enqueue() {
	if !h.queued {
		h.queued = true
		h.conn.blocked = append(h.conn.blocked, h)
	}
}

// resume sends what waited.
func (h *half) resume() {
	if h.gone || len(h.pending) == 0 && !h.end {
		return
	}
	withTrailers := h.trailers != nil
	rest := h.sendNow(h.pending, h.end && !withTrailers, h.from)
	if len(rest) > 0 {
		h.pending = h.pending[:copy(h.pending, rest)]
		return
	}
	h.pending = nil
	if withTrailers && !h.sentEnd {
		trailers := h.trailers
		h.trailers, h.end = nil, false
		h.conn.appendBlock(h.id, trailers, true)
		h.ended()
	}
}

// ended notes that END_STREAM was sent.
func (h *half) ended() {
	h.sentEnd = true
	h.end = false
	if h.recvEnd {
		h.forget()
	}
}

// forget takes the half off its connection. The caller holds conn.mu.
func (h *half) forget() {
	if h.gone {
		return
	}
	h.gone = true
	h.pending, h.trailers, h.end = nil, nil, false
	c := h.conn
	delete(c.streams, h.id)
	if len(c.streams) == 0 && c.goingAway {
		c.hangUp = true // at the next flush
	}
	if c.link != nil {
		c.link.freed()
	}
}

// reset ends the half with RST_STREAM.
func (h *half) reset(code errCode) {
	if h.gone {
		return
	}
	h.conn.out = appendRST(h.conn.out, h.id, code)
	h.forget()
}

// returnCredit lets the other side send n octets more, since as many were passed on. It tells whether there is now something to be
// flushed on the half's connection. In batches of half a window, so that few octets cost little.
func (h *half) returnCredit(n uint32) bool {
	c := h.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.gone || h.recvEnd {
		return false
	}
	h.owed += n
	if h.owed < recvStreamWindow/2 {
		return false
	}
	c.out = appendWindowUpdate(c.out, h.id, h.owed)
	h.recvWindow += int64(h.owed)
	h.owed = 0
	return true
}

func cloneFields(fields []hpack.Field) []hpack.Field {
	out := make([]hpack.Field, len(fields))
	for i, f := range fields {
		out[i] = hpack.Field{Name: string(append([]byte(nil), f.Name...)), Value: string(append([]byte(nil), f.Value...)), How: f.How}
	}
	return out
}

package relay

import (
	"encoding/binary"
	"errors"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
)

// data handles a DATA frame.
func (c *conn) data(f *frame) error {
	if f.stream == 0 {
		return connError{codeProtocol, "DATA without a stream"}
	}
	if err := c.creditConn(len(f.payload)); err != nil {
		return err
	}
	payload, ok := f.unpad()
	if !ok {
		return connError{codeProtocol, "padding longer than its frame"}
	}
	end := f.has(flagEndStream)
	c.mu.Lock()
	h := c.streams.get(f.stream)
	if h == nil {
		c.mu.Unlock()
		if c.idle(f.stream) {
			return connError{codeProtocol, "DATA on an idle stream"}
		}
		return c.closedStream(f.stream)
	}
	if h.recvEnd {
		c.mu.Unlock()
		return streamError{f.stream, codeStreamClosed, "DATA after END_STREAM"}
	}
	if h.recvWindow -= int64(len(f.payload)); h.recvWindow < 0 {
		c.mu.Unlock()
		return streamError{f.stream, codeFlowControl, "more DATA than the stream's window allows"}
	}
	window := h.recvMax
	c.mu.Unlock()
	if c.link != nil {
		c.link.spoke()
	}
	// Padding goes no further, so its credit is returned at once.
	if pad := len(f.payload) - len(payload); pad > 0 && h.returnCredit(uint32(pad)) {
		c.touch(c)
	}
	if len(payload) == 0 && !end {
		return nil // it says nothing; passed on, it would cost the other side what it costs nothing to send
	}
	if !end {
		c.measure(h, len(payload), window)
	}
	if h.down {
		return h.s.requestData(c, h, payload, end)
	}
	return h.s.responseData(c, h, payload, end)
}

// headers begins a header block.
func (c *conn) headers(f *frame) error {
	if f.stream == 0 {
		return connError{codeProtocol, "HEADERS without a stream"}
	}
	if c.link == nil && f.stream%2 == 0 {
		return connError{codeProtocol, "HEADERS on an even stream"}
	}
	p, ok := f.unpad()
	if !ok {
		return connError{codeProtocol, "padding longer than its frame"}
	}
	c.block.selfish = false
	if f.has(flagPriority) {
		if len(p) < 5 {
			return connError{codeFrameSize, "HEADERS too short for a priority"}
		}
		c.block.selfish = binary.BigEndian.Uint32(p)&maxWindow == f.stream
		p = p[5:]
	}
	if f.has(flagEndHeaders) {
		return c.decoded(f.stream, f.flags, p)
	}
	c.block.stream, c.block.flags, c.block.frames = f.stream, f.flags, 1
	c.block.buf = append(c.block.buf[:0], p...)
	c.assembled(len(p))
	return nil
}

func (c *conn) continuation(f *frame) error {
	if c.block.stream == 0 {
		return connError{codeProtocol, "CONTINUATION without HEADERS"}
	}
	c.block.frames++
	c.block.buf = append(c.block.buf, f.payload...)
	// HPACK makes blocks smaller, hardly ever larger, so a block over the limit is over it decoded too. It must be decoded all the
	// same, or the tables are out of step; one that is far over ends the connection.
	if c.block.frames > maxBlockFrames+int(c.e.cfg.Limits.HeaderBytes)>>13 || len(c.block.buf) > 8*int(c.e.cfg.Limits.HeaderBytes) {
		c.e.hit(limitHeaderBytes)
		return connError{codeEnhanceYourCalm, exceeded(limitHeaderBytes, int64(c.e.cfg.Limits.HeaderBytes), "a header block does not end")}
	}
	if !f.has(flagEndHeaders) {
		c.assembled(len(c.block.buf))
		return nil
	}
	b := c.block
	c.block.stream = 0
	err := c.decoded(b.stream, b.flags, b.buf)
	c.assembled(0)
	return err
}

const (
	// mostBlock and mostFields are how much room for a header block is kept until the next one.
	mostBlock  = 16 << 10
	mostFields = 256
)

// trim gives back what a large block needed.
func (c *conn) trim() {
	if cap(c.block.buf) > mostBlock && c.block.stream == 0 {
		c.block.buf = nil
	}
	if cap(c.fields) > mostFields {
		c.fields = nil
	}
	c.dec.Trim()
}

// assembled has the octets of a block that is not whole yet count as held.
func (c *conn) assembled(n int) {
	c.mu.Lock()
	c.blockBytes = n
	c.account()
	c.mu.Unlock()
	if c.e.buffered.Load() > c.e.cfg.Limits.BufferedBytes {
		c.e.relieve()
	}
}

// decoded handles a whole header block.
func (c *conn) decoded(id uint32, flags byte, block []byte) error {
	err := c.decode(id, flags, block)
	if len(block) > mostBlock || cap(c.fields) > mostFields {
		c.trim()
	}
	return err
}

func (c *conn) decode(id uint32, flags byte, block []byte) (err error) {
	c.fields, err = c.dec.Decode(c.fields[:0], block)
	tooLarge := errors.Is(err, hpack.ErrTooLarge)
	if err != nil && !tooLarge {
		return connError{codeCompression, err.Error()}
	}
	if c.block.selfish {
		if c.isClient() {
			c.lastStream = max(c.lastStream, id) // it was used
		}
		return streamError{id, codeProtocol, "a stream depends on itself"}
	}
	end := flags&flagEndStream != 0
	if c.link != nil {
		return c.responseHeaders(id, end, tooLarge)
	}
	return c.requestHeaders(id, end, tooLarge)
}

func (c *conn) rst(f *frame) error {
	switch {
	case f.stream == 0:
		return connError{codeProtocol, "RST_STREAM without a stream"}
	case len(f.payload) != 4:
		return connError{codeFrameSize, "RST_STREAM of a wrong length"}
	case c.idle(f.stream):
		return connError{codeProtocol, "RST_STREAM on an idle stream"}
	}
	code := errCode(binary.BigEndian.Uint32(f.payload))
	c.mu.Lock()
	h := c.streams.get(f.stream)
	whole := false
	if h != nil {
		whole = h.recvEnd
		h.forget()
	}
	c.mu.Unlock()
	if h != nil {
		h.s.wasReset(c, h, code, whole)
	}
	return c.countReset()
}

// ignores tells whether a client's stream is above the last that our GOAWAY has named. The client knows that it was not processed, and
// what it had sent on it by then is discarded (RFC 9113 §6.8). The caller holds mu.
func (c *conn) ignores(id uint32) bool { return c.isClient() && c.goingAway && id > c.lastOpened }

// closedStream handles a frame on a stream that is closed. Behind our own reset, such frames are to be ignored: they were under way
// (RFC 9113 §5.1).
func (c *conn) closedStream(id uint32) error {
	c.mu.Lock()
	ours := c.resetsSent.has(id) || c.ignores(id)
	if !ours {
		c.putRST(id, codeStreamClosed)
		c.control++
	}
	c.mu.Unlock()
	if ours {
		return nil
	}
	c.touch(c)
	return c.countReset()
}

// countReset counts a stream of a client that ended early, by its own doing or by what it did wrong: either costs us and its peer
// a call, and costs the client nothing (CVE-2023-44487, CVE-2025-8671).
func (c *conn) countReset() error {
	if c.link != nil || c.resets.take(c.now, c.e.cfg.Limits.ResetsPerSecond) {
		return nil
	}
	c.e.hit(limitResets)
	return connError{codeEnhanceYourCalm, exceeded(limitResets, int64(c.e.cfg.Limits.ResetsPerSecond), "too many streams were reset")}
}

// resetBySelf ends a stream for something that the other side did wrong on it.
func (c *conn) resetBySelf(err streamError) error {
	c.mu.Lock()
	h := c.streams.get(err.stream)
	if h != nil {
		h.reset(err.code)
	} else {
		c.putRST(err.stream, err.code)
		c.resetsSent.add(err.stream)
	}
	c.control++
	c.mu.Unlock()
	c.touch(c)
	if h != nil {
		h.s.broken(c, h, err)
	}
	return c.countReset()
}

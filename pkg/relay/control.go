package relay

import (
	"encoding/binary"
	"time"
)

// applySettings takes the other side's SETTINGS. They are in force from here on, and the ACK stands in order with what is sent
// under them (RFC 9113 §6.5.3).
func (c *conn) applySettings(f *frame) error {
	switch {
	case f.stream != 0:
		return connError{codeProtocol, "SETTINGS on a stream"}
	case f.has(flagAck) && len(f.payload) != 0, len(f.payload)%6 != 0:
		return connError{codeFrameSize, "SETTINGS of a wrong length"}
	case f.has(flagAck):
		return nil
	}
	c.mu.Lock()
	err := c.applyAll(f.payload)
	if err == nil {
		// What the new windows let go comes behind the ACK, at the end of the batch: for some receivers they are in force only from
		// there on.
		c.putSettingsAck()
		c.resized = true
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.touch(c)
	if !c.greeted {
		c.greeted = true
		_ = c.nc.SetReadDeadline(time.Time{})
		if c.link != nil {
			c.link.opened()
		}
	} else if c.link != nil {
		c.link.limitChanged()
	}
	return nil
}

// applyAll applies every setting. The caller holds mu.
func (c *conn) applyAll(p []byte) error {
	for ; len(p) > 0; p = p[6:] {
		id, v := binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])
		switch id {
		case settingHeaderTableSize:
			c.enc.SetMaxTableSize(v)
		case settingEnablePush:
			if v > 1 {
				return connError{codeProtocol, "SETTINGS_ENABLE_PUSH is neither 0 nor 1"}
			}
		case settingMaxConcurrentStreams:
			c.settings.maxStreams = v
		case settingInitialWindowSize:
			if v > maxWindow {
				return connError{codeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE too large"}
			}
			if err := c.resizeWindows(int64(v)); err != nil {
				return err
			}
		case settingMaxFrameSize:
			if v < minMaxFrameSize || v > maxMaxFrameSize {
				return connError{codeProtocol, "SETTINGS_MAX_FRAME_SIZE out of range"}
			}
			// Larger frames than the least everybody takes gain little and let one stream hold the connection for longer.
			c.settings.maxFrame = minMaxFrameSize
		}
	}
	return nil
}

// resizeWindows changes all streams' send windows (RFC 9113 §6.9.2), which are kept relative to the initial one. No stream needs to be
// looked at, except where one may have grown too large. The caller holds mu.
func (c *conn) resizeWindows(initial int64) error {
	if c.widest+initial > maxWindow {
		c.widest = 0 // what is noted may be that of a stream that has ended, or has been used since
		for h := range c.streams.all() {
			c.widest = max(c.widest, h.window)
		}
		if c.widest+initial > maxWindow {
			return connError{codeFlowControl, "a window grew too large by SETTINGS"}
		}
	}
	c.settings.initialWindow = initial
	return nil
}

// resumeAll lets all streams that wait go on, once a batch, however many SETTINGS were in it.
func (c *conn) resumeAll() {
	c.resized = false
	c.mu.Lock()
	if c.pendingBytes > 0 {
		for h := range c.streams.all() {
			h.resume()
		}
	}
	c.mu.Unlock()
	c.touch(c)
}

func (c *conn) windowUpdate(f *frame) error {
	if len(f.payload) != 4 {
		return connError{codeFrameSize, "WINDOW_UPDATE of a wrong length"}
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & maxWindow)
	if f.stream != 0 && c.idle(f.stream) {
		return connError{codeProtocol, "WINDOW_UPDATE on an idle stream"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pendingBytes > 0 {
		c.touch(c) // something may go on
	}
	if f.stream == 0 {
		if n == 0 {
			return connError{codeProtocol, "WINDOW_UPDATE of 0 on the connection"}
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return connError{codeFlowControl, "the connection's window grew too large"}
		}
		c.resumeBlocked()
		return nil
	}
	h := c.streams.get(f.stream)
	switch {
	case h == nil: // it ended a moment ago
		return nil
	case n == 0:
		return streamError{f.stream, codeProtocol, "WINDOW_UPDATE of 0"}
	case !h.widen(n):
		return streamError{f.stream, codeFlowControl, "the stream's window grew too large"}
	}
	h.resume()
	return nil
}

func (c *conn) ping(f *frame) error {
	switch {
	case f.stream != 0:
		return connError{codeProtocol, "PING on a stream"}
	case len(f.payload) != 8:
		return connError{codeFrameSize, "PING of a wrong length"}
	case f.has(flagAck):
		c.ponged([8]byte(f.payload))
		return nil
	}
	c.mu.Lock()
	c.putPing(flagAck, [8]byte(f.payload))
	c.mu.Unlock()
	c.answers = true
	return nil
}

// ponged takes the answer to a PING of ours.
func (c *conn) ponged(what [8]byte) {
	switch what {
	case alivePing:
		if c.link != nil {
			c.link.satisfied()
		}
	case windowPing:
		c.measured()
	case drainPing:
		c.farewellFromReader()
	}
}

func (c *conn) priority(f *frame) error {
	switch {
	case f.stream == 0:
		return connError{codeProtocol, "PRIORITY without a stream"}
	case len(f.payload) != 5:
		return streamError{f.stream, codeFrameSize, "PRIORITY of a wrong length"}
	case binary.BigEndian.Uint32(f.payload)&maxWindow == f.stream:
		return streamError{f.stream, codeProtocol, "a stream depends on itself"}
	}
	return nil
}

func (c *conn) goAway(f *frame) error {
	switch {
	case f.stream != 0:
		return connError{codeProtocol, "GOAWAY on a stream"}
	case len(f.payload) < 8:
		return connError{codeFrameSize, "GOAWAY too short"}
	case c.link == nil:
		return nil // a client says that it makes no more calls; what is open goes on
	}
	c.link.goAway(binary.BigEndian.Uint32(f.payload) & maxWindow)
	return nil
}

// maxCreditBatch is how much credit is returned at once, at most.
const maxCreditBatch = 1 << 20

// creditConn returns connection credit for n octets on receipt, in batches.
func (c *conn) creditConn(n int) error {
	if c.recvWindow -= int64(n); c.recvWindow < 0 {
		return connError{codeFlowControl, "more DATA than the connection's window allows"}
	}
	if c.owed += uint32(n); c.owed >= maxCreditBatch {
		c.mu.Lock()
		c.putWindowUpdate(0, c.owed)
		c.mu.Unlock()
		c.recvWindow += int64(c.owed)
		c.owed = 0
		c.touch(c)
	}
	return nil
}

package relay

import "github.com/flyproxy/flyproxy/pkg/routing"

// requestData passes DATA of the client on, and keeps it while it may be needed again. It runs on the reader of c.
func (s *stream) requestData(c *conn, h *half, p []byte, end bool) error {
	s.received += int64(len(p))
	if s.contentLength >= 0 && (s.received > s.contentLength || end && s.received != s.contentLength) {
		return streamError{h.id, codeProtocol, "content-length does not fit the DATA"}
	}
	if end {
		c.mu.Lock()
		h.received()
		c.mu.Unlock()
	}
	s.mu.Lock()
	up, from, credit := s.up, h, 0
	kept := true
	if !s.begun && !s.over {
		if credit, kept = s.request.keep(s.e, c, p, end, up == nil); credit > 0 {
			from = nil
		}
	}
	switch {
	case up != nil:
		uc := up.conn
		uc.mu.Lock()
		dropped := up.sendData(p, end, from)
		uc.mu.Unlock()
		if from != nil {
			credit = dropped
		}
	case s.over || s.begun:
		credit = len(p)
	}
	over := s.over
	s.mu.Unlock()
	if up != nil {
		up.conn.link.waits(c.now)
		c.touch(up.conn)
	} else if !kept && !over {
		s.overflow(c)
		return nil
	}
	if credit > 0 && !end && h.returnCredit(uint32(credit)) {
		c.touch(c)
	}
	return nil
}

// overflow ends a call that waits for a connection when there is no room for what it sends meanwhile.
func (s *stream) overflow(c *conn) {
	up, mine := s.claim()
	if !mine {
		return
	}
	s.fail(c, statusResourceExhausted, exceeded(limitReplay, s.e.cfg.Limits.ReplayBytes, "no room for what is sent while the call waits"))
	s.abandon(c, up, codeCancel)
	s.finish(c, outcomeOfOurs, statusResourceExhausted)
}

// responseData passes DATA of a peer on. It runs on the reader of c.
func (s *stream) responseData(c *conn, h *half, p []byte, end bool) error {
	s.mu.Lock()
	if s.up != h {
		s.mu.Unlock()
		return nil
	}
	if !s.begun {
		s.mu.Unlock()
		return streamError{h.id, codeProtocol, "DATA before HEADERS"}
	}
	over := end && !s.over
	s.over = s.over || end
	code := s.status
	mute := end && s.grpc // a gRPC response that ends with DATA has no status
	s.mu.Unlock()
	dc := s.down.conn
	dc.mu.Lock()
	dropped := s.down.sendData(p, end && !mute, h)
	if mute {
		code = statusInternal
		s.down.sendHeaders(trailers(code, "the peer ended its response without a status"), true)
	}
	if end {
		s.down.resetAtEnd(codeNo)
	}
	dc.mu.Unlock()
	c.touch(dc)
	if dropped > 0 && h.returnCredit(uint32(dropped)) {
		c.touch(c)
	}
	if end {
		c.answeredOn(h)
	}
	if over {
		s.finish(c, routing.Answered, code)
	}
	return nil
}

// answeredOn notes that the peer's response on h is complete. What the client may still send nobody reads: in gRPC a call is over with
// its status, so the stream is freed at once, on both sides (RFC 9113 §8.1).
func (c *conn) answeredOn(h *half) {
	c.mu.Lock()
	h.received()
	open := !h.gone
	h.reset(codeNo)
	c.mu.Unlock()
	if open {
		c.touch(c)
	}
}

package h2script

import (
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Stream is one end of a call. What it awaits is read in order: each awaited frame is taken once.
type Stream struct {
	ID   uint32
	Conn *Conn
	// Request are the request's header fields, at a server.
	Request []hpack.HeaderField

	next  int    // the connection's first event that was not looked at
	data  []byte // DATA that has come and was not asked for
	ended bool   // the other side has sent END_STREAM
}

// SendHeaders sends a header block in one frame, or in as many as its size needs.
func (s *Stream) SendHeaders(end bool, fields ...Field) { s.SendBlock(end, Encode(fields...), 16384) }

// SendBlock sends a header block cut into pieces of at most size bytes: HEADERS and CONTINUATION frames.
func (s *Stream) SendBlock(end bool, block []byte, size int) {
	s.sending(end)
	_ = s.Conn.write(func(f *http2.Framer) error {
		n := min(size, len(block))
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: s.ID, EndStream: end, EndHeaders: n == len(block), BlockFragment: block[:n]})
		for rest := block[n:]; len(rest) > 0 && err == nil; rest = rest[n:] {
			n = min(size, len(rest))
			err = f.WriteContinuation(s.ID, n == len(rest), rest[:n])
		}
		return err
	})
}

// SendData sends one DATA frame, whatever the windows say.
func (s *Stream) SendData(end bool, data []byte) { s.SendPadded(end, data, 0) }

// SendPadded sends one DATA frame with padding: pad bytes and one more that counts them. With pad 0 there is none.
func (s *Stream) SendPadded(end bool, data []byte, pad int) {
	s.sending(end)
	n := int64(len(data))
	if pad > 0 {
		n += int64(pad) + 1
	}
	c := s.Conn
	_ = c.write(func(f *http2.Framer) error {
		c.mu.Lock()
		c.flow.credited(0, -n)
		c.flow.credited(s.ID, -n)
		c.mu.Unlock()
		if pad > 0 {
			return f.WriteDataPadded(s.ID, end, data, make([]byte, pad))
		}
		return f.WriteData(s.ID, end, data)
	})
}

// SendMessage sends an uncompressed gRPC message in one DATA frame.
func (s *Stream) SendMessage(end bool, body string) { s.SendData(end, Message(0, body)) }

// SendReset resets the stream.
func (s *Stream) SendReset(code http2.ErrCode) {
	s.Conn.mu.Lock()
	s.Conn.halfLocked(s.ID, true)
	s.Conn.mu.Unlock()
	_ = s.Conn.write(func(f *http2.Framer) error { return f.WriteRSTStream(s.ID, code) })
}

// Credit gives credit to the stream.
func (s *Stream) Credit(n uint32) { s.Conn.Credit(s.ID, n) }

// Respond answers the call: headers, one message, and OK.
func (s *Stream) Respond(body string) {
	s.SendHeaders(false, Response()...)
	s.SendMessage(false, body)
	s.SendHeaders(true, Fields("grpc-status", "0")...)
}

// sending keeps account of the stream before a frame goes out.
func (s *Stream) sending(end bool) {
	c := s.Conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests == nil && c.flow.streams[s.ID] == nil {
		c.openLocked(s.ID)
	}
	if end {
		c.halfLocked(s.ID, false)
	}
}

// event gives the stream's next HEADERS, DATA or RST_STREAM, or the connection's end.
func (s *Stream) event(patience time.Duration) (Event, bool) {
	return s.Conn.await(&s.next, patience, func(e *Event) bool {
		return e.Closed || e.Stream == s.ID &&
			(e.Type == http2.FrameHeaders || e.Type == http2.FrameData || e.Type == http2.FrameRSTStream)
	})
}

// must gives the next event, which must be of that type.
func (s *Stream) must(what http2.FrameType) Event {
	t := s.Conn.t
	t.Helper()
	for {
		e, ok := s.event(Patience)
		switch {
		case !ok:
			t.Fatalf("the %s gets no %v", s.Conn.Name, what)
		case e.Type != what || e.Closed:
			if what == http2.FrameHeaders && e.Type == http2.FrameData && len(e.Data) == 0 && !e.End() {
				continue
			}
			t.Fatalf("the %s gets %s instead of %v", s.Conn.Name, &e, what)
		}
		s.ended = s.ended || e.End()
		return e
	}
}

// Headers awaits the next header block.
func (s *Stream) Headers() Event {
	s.Conn.t.Helper()
	return s.must(http2.FrameHeaders)
}

// Reset awaits RST_STREAM; DATA before it is skipped.
func (s *Stream) Reset() http2.ErrCode {
	s.Conn.t.Helper()
	for {
		e, ok := s.event(Patience)
		switch {
		case !ok:
			s.Conn.t.Fatalf("the %s gets no RST_STREAM", s.Conn.Name)
		case e.Type == http2.FrameRSTStream && !e.Closed:
			return e.Code
		case e.Type != http2.FrameData || e.Closed:
			s.Conn.t.Fatalf("the %s gets %s instead of RST_STREAM", s.Conn.Name, &e)
		}
	}
}

// Bytes awaits n bytes of DATA.
func (s *Stream) Bytes(n int) []byte {
	s.Conn.t.Helper()
	for len(s.data) < n {
		if s.ended {
			s.Conn.t.Fatalf("the %s gets END_STREAM before all DATA", s.Conn.Name)
		}
		s.data = append(s.data, s.must(http2.FrameData).Data...)
	}
	b := s.data[:n:n]
	s.data = s.data[n:]
	return b
}

// HalfClose awaits END_STREAM on DATA, with no bytes left.
func (s *Stream) HalfClose() {
	s.Conn.t.Helper()
	for !s.ended {
		if e := s.must(http2.FrameData); len(e.Data) > 0 {
			s.Conn.t.Fatalf("the %s gets more DATA", s.Conn.Name)
		}
	}
	if len(s.data) > 0 {
		s.Conn.t.Fatalf("the %s gets more DATA", s.Conn.Name)
	}
}

// Came gives what has come within d, without failing when nothing has. It is for what must not come.
func (s *Stream) Came(d time.Duration) (e Event, ok bool) { return s.event(d) }

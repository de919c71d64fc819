package relay

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// stream is one call: its half towards the client, its half towards the peer, and what is needed to begin it again elsewhere.
type stream struct {
	e       *Engine
	started time.Time
	down    half
	method  string
	// unprocessedBy says that a peer was sent the call and has not processed it. It belongs to whoever routes the call.
	unprocessedBy bool
	// contentLength is what the client announced, -1 if it did not; received is what came.
	contentLength, received int64

	// ended is set once the call's outcome was told.
	ended atomic.Bool

	mu sync.Mutex
	// The fields below are guarded by mu. A conn.mu may be taken under it.
	call     routing.Call
	fields   []hpack.Field // the request's, until the response has begun
	pick     routing.Pick
	picked   bool
	up       *half // nil while the call waits for a connection
	deadline time.Time
	attempts int
	// replay holds the request's bytes until the response has begun: all of them while the call waits, and after that as long as
	// they stay within bounds. lost says that some are no longer there.
	replay    []byte
	lost      bool
	replayEnd bool
	// begun says that response headers went to the client: from here on nothing is tried again.
	begun  bool
	status uint32
	timer  *time.Timer
}

// replayLimit bounds what is kept of a call's request for the case that its peer goes away without having processed it. A call
// that has sent more is not replayed.
const replayLimit = 64 << 10

// data passes bytes that came on half h to the other one. It runs on the reader of c.
func (s *stream) data(c *conn, h *half, p []byte, end bool) error {
	if h.down {
		return s.requestData(c, h, p, end)
	}
	return s.responseData(c, h, p, end)
}

func (s *stream) requestData(c *conn, h *half, p []byte, end bool) error {
	s.received += int64(len(p))
	if s.contentLength >= 0 && (s.received > s.contentLength || end && s.received != s.contentLength) {
		return streamError{h.id, codeProtocol, "content-length does not fit the DATA"}
	}
	if end {
		c.mu.Lock()
		h.recvEnd = true
		if h.sentEnd {
			h.forget()
		}
		c.mu.Unlock()
	}
	s.mu.Lock()
	up := s.up
	waiting := up == nil
	if !s.begun && !s.lost {
		if waiting || len(s.replay)+len(p) <= replayLimit {
			s.replay = append(s.replay, p...)
			s.replayEnd = s.replayEnd || end
		} else {
			s.replay, s.lost = nil, true
		}
	}
	if waiting {
		s.mu.Unlock()
		return nil // credit is returned when a peer's socket takes it, so a window bounds what waits here
	}
	uc := up.conn
	uc.mu.Lock()
	dropped := up.sendData(p, end, h)
	uc.mu.Unlock()
	s.mu.Unlock()
	c.touch(uc)
	if dropped > 0 && h.returnCredit(uint32(dropped)) {
		c.touch(c)
	}
	return nil
}

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
	s.mu.Unlock()
	dc := s.down.conn
	dc.mu.Lock()
	dropped := s.down.sendData(p, end, h)
	dc.mu.Unlock()
	c.touch(dc)
	if dropped > 0 && h.returnCredit(uint32(dropped)) {
		c.touch(c)
	}
	if end {
		s.upEnded(c, h)
		s.finish(routing.Answered, statusUnknown)
	}
	return nil
}

// upEnded notes that the peer has sent all.
func (s *stream) upEnded(c *conn, h *half) {
	c.mu.Lock()
	h.recvEnd = true
	if h.sentEnd {
		h.forget()
	}
	c.mu.Unlock()
}

// begun is what became of an attempt to begin a call on a connection.
type begun uint8

const (
	onItsWay begun = iota
	// leaving means that the connection takes no more calls.
	leaving
	// over means that the call has ended meanwhile.
	over
)

// begin sends the call to a peer's connection, on which a place was reserved for it. It runs on a reader, or where the connection
// was made.
func (s *stream) begin(uc *conn) begun {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() || s.up != nil {
		return over
	}
	uc.mu.Lock()
	defer uc.mu.Unlock()
	if uc.goingAway || uc.closed != nil {
		return leaving
	}
	up := &half{s: s, conn: uc, id: uc.nextID, window: uc.settings.initialWindow, recvWindow: recvStreamWindow}
	uc.nextID += 2
	uc.streams[up.id] = up
	s.up = up
	fields := s.requestFields()
	end := s.replayEnd && len(s.replay) == 0
	up.sendHeaders(fields, end)
	if !end && (len(s.replay) > 0 || s.replayEnd) {
		up.sendData(s.replay, s.replayEnd, &s.down)
	}
	if len(s.replay) > replayLimit {
		s.replay, s.lost = nil, true
	}
	return onItsWay
}

// wasReset handles the other side's RST_STREAM on one half. It runs on the reader of c.
func (s *stream) wasReset(c *conn, h *half, code errCode) {
	if h.down {
		s.canceled(c, code)
		return
	}
	s.mu.Lock()
	mine, begun, lost := s.up == h, s.begun, s.lost
	s.mu.Unlock()
	switch {
	case !mine:
	case code == codeRefusedStream && !begun && !lost:
		s.again(c, routing.Unprocessed)
	default:
		s.resetDown(c, code)
		s.finish(routing.Answered, statusOfReset(code))
	}
}

// canceled passes the client's RST_STREAM on to the peer.
func (s *stream) canceled(c *conn, code errCode) {
	s.mu.Lock()
	if up := s.up; up != nil {
		up.conn.mu.Lock()
		up.reset(code)
		up.conn.mu.Unlock()
		c.touch(up.conn)
	}
	s.mu.Unlock()
	s.finish(routing.Canceled, statusCanceled)
}

// resetDown ends the client's half.
func (s *stream) resetDown(c *conn, code errCode) {
	dc := s.down.conn
	dc.mu.Lock()
	s.down.reset(code)
	dc.mu.Unlock()
	c.touch(dc)
}

// broken ends a call in which one side did something wrong.
func (s *stream) broken(c *conn, h *half, err streamError) {
	if h.down {
		s.canceled(c, codeCancel)
		return
	}
	s.fail(c, statusInternal, "the peer broke the HTTP/2 protocol: "+err.why)
	s.finish(routing.Answered, statusInternal)
}

// fail gives the client a status of our own, if it has none yet.
func (s *stream) fail(c *conn, code uint32, message string) {
	s.mu.Lock()
	begun := s.begun
	s.begun = true
	s.mu.Unlock()
	dc := s.down.conn
	dc.mu.Lock()
	if begun {
		// Headers went out: only trailers can say it now, behind what waits.
		s.down.sendHeaders(trailers(code, message), true)
	} else {
		s.down.sendHeaders(trailersOnly(code, message), true)
	}
	s.down.stopReading()
	dc.mu.Unlock()
	if c != nil {
		c.touch(dc)
	} else {
		flush([]*conn{dc})
	}
}

// stopReading tells a client whose call is over that nobody reads what it still sends (RFC 9113 §8.1). The caller holds conn.mu.
func (h *half) stopReading() {
	if !h.recvEnd && h.sentEnd {
		h.reset(codeNo)
	}
}

// finish tells the outcome, once.
func (s *stream) finish(o routing.Outcome, code uint32) {
	if s.ended.Swap(true) {
		return
	}
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	if code == statusUnknown {
		code = s.status
	}
	pick, picked := s.pick, s.picked
	s.picked = false
	s.fields, s.replay = nil, nil
	service := pick.Service
	attempts := s.attempts
	s.mu.Unlock()
	if picked {
		pick.Done(o)
	}
	s.e.callEnded(s, service, pick.Peer, code, attempts)
}

package relay

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// stream is one call: its half towards the client, its half towards the peer, and what is needed to begin it again elsewhere.
type stream struct {
	e *Engine
	// started is when its headers came, deadline when it must be over (0: never), on the engine's clock. They don't change.
	started, deadline int64
	down              half
	place             int // in the client connection's deadlines, from 1 on; 0 when it is not there. Guarded by deadlines.mu.

	// own says that the sidecar itself answers the call: it is not forwarded, and nobody is told of it.
	own bool

	// contentLength is what the client announced, -1 if it did not; received is what came. They belong to the client's reader.
	contentLength, received int64

	// The fields below belong to whoever routes the call: one goroutine at a time, since a call is either being routed, or waits in
	// one queue, or is with one peer.
	call routing.Call
	// unprocessedBy says that a peer was sent the call and has not processed it, avoids that it is repeated and looks for another peer
	// than those that had it, busy how many peers had no room, and queues that it now waits where there is none.
	unprocessedBy, avoids, queues bool
	busy, returns                 int
	// resend says that the next peer is one more than the first, and why; it is counted once there is one.
	resend bool
	why    reason

	// done is set when the call has ended.
	done atomic.Bool

	mu sync.Mutex
	// The fields below are guarded by mu. A conn.mu may be taken under it.
	request replay
	pick    routing.Pick
	picked  bool
	sentTo  *routing.Peer // the last one that was sent the call
	up      *half         // nil while the call waits for a connection
	first   half          // what up points to at first
	// attempts counts the peers that were picked, repeated those of them that policy retries added.
	attempts, repeated int
	// begun says that response headers went to the client: from here on nothing is tried again. grpc says that they are those of a
	// gRPC response, which ends with a status.
	begun, grpc bool
	// over says that the outcome of the call is known. Its halves may still be open: a client may send on after the response.
	over   bool
	status uint32
	pause  *time.Timer // before a retry by policy; a server may want hours, for which nothing of a call that is over is to be held
}

// outcomeOfOurs is the outcome, for the router, of a call that our side has ended: it says nothing about the peer.
const outcomeOfOurs = routing.Canceled

// claim settles who ends the call: exactly one caller gets mine, and calls finish. up is the peer's half, if there is one.
func (s *stream) claim() (up *half, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine = !s.over
	s.over = true
	return s.up, mine
}

// wasReset handles the other side's RST_STREAM on one half, which was forgotten already. whole says that that side had ended its
// part before. It runs on the reader of c.
func (s *stream) wasReset(c *conn, h *half, code errCode, whole bool) {
	if h.down {
		s.canceled(c, code)
		return
	}
	s.mu.Lock()
	mine, begun := s.up == h, s.begun
	again := code == codeRefusedStream && s.takeBack(h)
	s.mu.Unlock()
	switch {
	case !mine:
		return
	case again:
		s.again(c, routing.Unprocessed, reasonRefused)
		return
	}
	_, claimed := s.claim()
	status := statusOfReset(code)
	switch {
	case code == codeRefusedStream && !begun:
		// To a client it would say that it may send the call again unseen, which is ours to do, and we cannot.
		s.fail(c, status, "the peer refused the call, which was too large to be kept and sent to another")
	case whole:
		s.stopRequest(c, code)
	default:
		s.resetDown(c, code)
	}
	if claimed {
		s.finish(c, routing.Answered, status)
	}
}

// canceled passes the client's RST_STREAM on to the peer.
func (s *stream) canceled(c *conn, code errCode) {
	up, mine := s.claim()
	s.abandon(c, up, code)
	if mine {
		s.finish(c, outcomeOfOurs, statusCanceled)
	}
}

// abandon resets the peer's half. c is the connection on whose reader it runs, nil elsewhere.
func (s *stream) abandon(c *conn, up *half, code errCode) {
	if up == nil {
		return
	}
	uc := up.conn
	uc.mu.Lock()
	open := !up.gone
	up.reset(code)
	uc.mu.Unlock()
	if open {
		flushFrom(c, uc)
	}
}

// flushFrom has a connection flushed: at the end of the batch of c's reader, or now where there is none.
func flushFrom(c, target *conn) {
	if c != nil {
		c.touch(target)
		return
	}
	flush([]*conn{target})
}

// resetDown ends the client's half.
func (s *stream) resetDown(c *conn, code errCode) {
	dc := s.down.conn
	dc.mu.Lock()
	s.down.reset(code)
	dc.mu.Unlock()
	flushFrom(c, dc)
}

// stopRequest tells a client whose response is complete that nobody reads what it still sends (RFC 9113 §8.1), once it has all of
// the response.
func (s *stream) stopRequest(c *conn, code errCode) {
	dc := s.down.conn
	dc.mu.Lock()
	s.down.resetAtEnd(code)
	dc.mu.Unlock()
	flushFrom(c, dc)
}

// broken ends a call in which one side did something wrong; its half was reset already.
func (s *stream) broken(c *conn, h *half, err streamError) {
	if h.down {
		s.canceled(c, codeCancel)
		return
	}
	if _, mine := s.claim(); mine {
		s.fail(c, statusInternal, "the peer broke the HTTP/2 protocol: "+err.why)
		s.finish(c, routing.Answered, statusInternal)
	}
}

// fail gives the client a status of our own, if it has none yet, behind what waits to be sent to it. c is the connection on whose
// reader it runs, nil elsewhere.
func (s *stream) fail(c *conn, code uint32, message string) { s.tell(c, code, message, false) }

// cut is fail, but throws away what waits: there is no time, or no memory, for it.
func (s *stream) cut(c *conn, code uint32, message string) { s.tell(c, code, message, true) }

func (s *stream) tell(c *conn, code uint32, message string, discard bool) {
	s.mu.Lock()
	begun := s.begun
	s.begun = true
	s.mu.Unlock()
	dc := s.down.conn
	dc.mu.Lock()
	if discard {
		s.down.discard()
	}
	if begun {
		// Headers went out: only trailers can say it now.
		s.down.sendHeaders(trailers(code, message), true)
	} else {
		s.down.sendHeaders(trailersOnly(code, message), true)
	}
	s.down.resetAtEnd(codeNo)
	dc.mu.Unlock()
	flushFrom(c, dc)
}

// finish tells the outcome. Who has claimed the call calls it. c is the connection on whose reader it runs, nil elsewhere.
func (s *stream) finish(c *conn, o routing.Outcome, code uint32) {
	s.done.Store(true)
	s.mu.Lock()
	pick, picked := s.pick, s.picked
	s.picked = false
	s.request.drop(s.e, c)
	if s.pause != nil {
		s.pause.Stop()
	}
	attempts, sentTo := s.attempts, s.sentTo
	s.mu.Unlock()
	if s.deadline != 0 {
		s.down.conn.removeDeadline(s)
	}
	if picked {
		pick.Done(o)
	}
	s.e.callEnded(s, s.e.now(c), pick.Service, sentTo, code, attempts)
}

// unpick gives the pick back.
func (s *stream) unpick(o routing.Outcome) {
	s.mu.Lock()
	pick, picked := s.pick, s.picked
	s.picked = false
	s.mu.Unlock()
	if picked {
		pick.Done(o)
	}
}

// finished tells whether the call has ended.
func (s *stream) finished() bool { return s.done.Load() }

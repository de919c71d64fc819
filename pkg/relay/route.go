package relay

import (
	"errors"
	"time"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// maxBusy is how many peers without room a call passes over before it waits for one of them.
const maxBusy = 8

// route finds a peer for the call and has it sent there, or lets it wait for a connection. c is the connection on whose reader it
// runs, nil elsewhere.
func (s *stream) route(c *conn) {
	for {
		pick, err := s.e.cfg.Router.Route(&s.call)
		if err != nil {
			if s.lookAgain() {
				continue
			}
			s.unroutable(c, err)
			return
		}
		s.mu.Lock()
		if s.over {
			s.mu.Unlock()
			pick.Done(outcomeOfOurs)
			return
		}
		s.pick, s.picked = pick, true
		s.attempts++
		s.mu.Unlock()
		if s.resend {
			s.resend = false
			s.e.retries[s.why].Add(1)
		}
		switch s.e.pool.take(s, pick.Peer, c) {
		case taken:
			return
		case refused:
			s.unpick(routing.Refused)
			s.resend, s.why = true, reasonNotSent
		case busy:
			s.busy++
			s.mu.Lock()
			s.attempts--
			s.mu.Unlock()
			s.unpick(routing.Unprocessed)
		}
	}
}

// mayLeave tells whether the call need not wait for its peer, because there may be another that has room at once.
func (s *stream) mayLeave() bool {
	return s.call.ForceInstance == "" && !s.own && !s.queues && s.busy < maxBusy
}

// maxReturns is how often a call comes back to peers that have not processed it, when there are no others.
const maxReturns = 3

// lookAgain begins the search anew when nobody else is left: where none had room the call waits from now on, a peer that went away or
// was full may take the call on a new connection, a few times, and one that a retry was to avoid gets it once more.
func (s *stream) lookAgain() bool {
	switch {
	case s.busy > 0:
		s.busy, s.queues = 0, true
	case s.unprocessedBy && s.returns < maxReturns:
		s.returns++
	case s.avoids:
	default:
		return false
	}
	s.unprocessedBy, s.avoids = false, false
	s.call.ForgetUnprocessed()
	return true
}

// unroutable ends a call for which there is no peer.
func (s *stream) unroutable(c *conn, err error) {
	if _, mine := s.claim(); !mine {
		return
	}
	code, service := uint32(statusUnavailable), ""
	var re *routing.Error
	if errors.As(err, &re) {
		code, service = uint32(re.Code), re.Service
	}
	s.mu.Lock()
	s.pick.Service = service
	s.mu.Unlock()
	message := err.Error()
	if s.unprocessedBy {
		message = "the peers that were sent the call did not process the call: they are going away, or refuse it (" + message + ")"
	}
	s.fail(c, code, message)
	s.finish(c, outcomeOfOurs, code)
}

// takeBack takes a call that its peer h has provably not processed back, if it can be begun again. The caller holds s.mu, and calls
// again. That the request is there is judged in the same breath: once the call has no peer it is kept, however much of it still comes.
func (s *stream) takeBack(h *half) bool {
	if s.up != h || s.over || s.begun || s.request.lost {
		return false
	}
	s.up = nil
	return true
}

// again sends a call that has no peer, or was taken back from it, to another one.
func (s *stream) again(c *conn, o routing.Outcome, why reason) {
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	s.unpick(o)
	if over {
		return
	}
	s.resend, s.why = true, why
	if o == routing.Unprocessed {
		s.unprocessedBy = true
	}
	s.route(c)
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

// begin sends the call to a peer's connection, on which a place was reserved for it.
func (s *stream) begin(uc *conn, now int64) begun {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return over
	}
	uc.mu.Lock()
	defer uc.mu.Unlock()
	if uc.goingAway || uc.closed != nil || uc.nextID > maxStreamID {
		return leaving
	}
	up := &s.first
	if up.s != nil {
		up = new(half)
	}
	*up = half{s: s, conn: uc, id: uc.nextID, recvWindow: recvStreamWindow, recvMax: recvStreamWindow}
	uc.nextID += 2
	uc.streams.put(up)
	s.up = up
	s.sentTo = s.pick.Peer
	uc.link.began(now)
	r := &s.request
	up.sendHeaders(s.requestFields(now), r.end && len(r.data) == 0)
	if len(r.data) > 0 {
		up.sendData(r.data[:r.free], r.end && r.free == len(r.data), nil)
		if r.free < len(r.data) {
			up.sendData(r.data[r.free:], r.end, &s.down)
		}
	}
	r.sent(s.e)
	return onItsWay
}

// maxStreamID is the last id that a call may have (RFC 9113 §5.1.1).
const maxStreamID = 1<<31 - 1

// unprocessed handles a call that a peer has provably not processed.
func (s *stream) unprocessed(c *conn, h *half, why reason) {
	s.mu.Lock()
	mine := s.up == h && !s.over
	again := s.takeBack(h)
	s.mu.Unlock()
	switch {
	case !mine:
	case again:
		s.again(c, routing.Unprocessed, why)
	default:
		if _, claimed := s.claim(); claimed {
			s.fail(c, statusUnavailable, "the peer is going away and has not processed the call; it was too large to be kept and sent to another")
			s.finish(c, routing.Unprocessed, statusUnavailable)
		}
	}
}

// peerLost ends a call whose peer's connection broke. It may have been processed, so it is not sent again, unless the configuration
// says that it may be.
func (s *stream) peerLost(h *half, why error) {
	s.mu.Lock()
	mine := s.up == h && !s.over
	answered := s.up == h && s.over
	p := s.pick.Peer
	var pause time.Duration
	repeat := false
	if mine && p != nil {
		pause, repeat = s.takeBackByPolicy("")
	}
	s.mu.Unlock()
	if repeat {
		s.repeat(nil, h, routing.Lost, pause)
		return
	}
	if answered {
		s.stopRequest(nil, codeNo)
	}
	if !mine {
		return
	}
	if _, claimed := s.claim(); !claimed {
		return
	}
	who := "the sidecar's own service"
	if p != nil {
		who = p.Key.String() + " at " + p.Address
	}
	s.fail(nil, statusUnavailable, "peer lost: the connection to "+who+" broke during the call: "+why.Error())
	s.finish(nil, routing.Lost, statusUnavailable)
}

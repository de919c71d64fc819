package routing

import (
	"slices"
	"sync/atomic"
)

// Call is what routing knows of one call. It belongs to the goroutine that forwards the call.
type Call struct {
	// Method is the full method: /package.Service/Method.
	Method string
	// Service and ForceInstance are set by [Router.Take] from headers.
	Service       string
	ForceInstance string

	// tried are the peers that did not take this call; it is not offered to them again.
	tried []attempt
}

// attempt is a peer that did not take a call; refused says that no connection to it could be had.
type attempt struct {
	peer    *Peer
	refused bool
}

func (c *Call) hasTried(p *Peer) bool {
	return slices.ContainsFunc(c.tried, func(a attempt) bool { return a.peer == p })
}

// Avoid keeps a peer from being offered to the call again, whatever the outcome of its pick.
func (c *Call) Avoid(p *Peer) {
	if p != nil && !c.hasTried(p) {
		c.tried = append(c.tried, attempt{peer: p})
	}
}

// Forget has all peers offered to the call again.
func (c *Call) Forget() { c.tried = c.tried[:0] }

// ForgetUnprocessed has those peers offered to the call again that did not refuse it: they are there, and did not take it.
func (c *Call) ForgetUnprocessed() {
	c.tried = slices.DeleteFunc(c.tried, func(a attempt) bool { return !a.refused })
}

// Outcome is what became of a Pick.
type Outcome uint8

// The outcomes of a Pick.
const (
	// Refused means that no connection to the peer could be had and nothing of the call was sent: it may be routed again.
	Refused Outcome = iota + 1
	// Unprocessed means that the peer was sent the call and provably has not processed it: it was above the last stream id of a
	// GOAWAY, or refused with REFUSED_STREAM (RFC 9113 §8.7). The call may be routed again; the peer itself is well.
	Unprocessed
	// Answered means that the peer ended the call, with whatever status.
	Answered
	// Lost means that the connection broke while the call was open.
	Lost
	// Canceled means that our side ended the call, which says nothing about the peer.
	Canceled
)

// Reason says why a peer was picked.
type Reason uint8

// The reasons of a pick.
const (
	ReasonForced     Reason = iota // the call is pinned to this instance
	ReasonSameRegion               // in our region
	ReasonAnyRegion                // regions do not matter: routing.prefer_region is off, or our own is unknown
	ReasonNearest                  // none in our region: the nearest other one
	ReasonSelf                     // nobody else is left
	ReasonRetry                    // another peer did not take the call
	ReasonLastResort               // all peers are backed off
	reasons
)

var reasonNames = [reasons]string{"forced", "same_region", "any_region", "nearest", "self", "retry", "last_resort"}

// String is the reason's name in metrics.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Pick is a chosen peer. Exactly one of its Done calls counts; the caller makes exactly one.
type Pick struct {
	Peer    *Peer
	Service string
	Reason  Reason

	router *Router
	call   *Call
}

// Done tells the router what became of the pick.
func (p *Pick) Done(o Outcome) {
	p.Peer.inFlight.Add(-1)
	switch o {
	case Refused:
		p.call.tried = append(p.call.tried, attempt{p.Peer, true})
		p.router.refused(p.Peer)
	case Unprocessed:
		p.call.tried = append(p.call.tried, attempt{peer: p.Peer})
	case Answered:
		p.router.answered(p.Peer)
	}
}

// Responding tells the router, at most once before Done, that the peer has begun to answer: a stream may go on for hours, and until
// an answer a peer that had refused gets hardly any calls.
func (p *Pick) Responding() { p.router.answered(p.Peer) }

type stats struct {
	picks [reasons]atomic.Uint64
	none  atomic.Uint64
}

// Picks gives the number of picks so far by reason.
func (r *Router) Picks() map[string]uint64 {
	m := make(map[string]uint64, reasons)
	for i := range r.stats.picks {
		m[Reason(i).String()] = r.stats.picks[i].Load()
	}
	return m
}

// Unroutable is the number of calls so far for which there was no peer.
func (r *Router) Unroutable() uint64 { return r.stats.none.Load() }

// Policy is the name of the policy in force.
func (r *Router) Policy() string { return r.policy.name() }

package grpcengine

import (
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// attempt is one peer that the router gave for the call.
type attempt struct {
	call *call
	pick routing.Pick

	// While the attempt waits for a connection: which link, how often that had failed when the wait began, how many times a
	// connection was opened for it, and how many of the peer's had been short-lived.
	link     *link
	failures int
	connects int
	flaps    int
	// full tells that it waits for room only: there is a connection.
	full bool
	// waits is the peer in whose queue it is.
	waits atomic.Pointer[peer]

	// sub and conn are what the call's stream was given to, stream what became of it; nil before.
	sub    balancer.SubConn
	stream *stream
	// The fields below, and writing conn, go by call.mu.
	conn *conn
	sent bool // the peer was sent the call
	// outcome is 0 until the attempt has ended. settled says that the router was told.
	outcome routing.Outcome
	settled bool
}

// mayLeave tells whether the call need not wait for this peer, because there may be another that has room at once.
func (a *attempt) mayLeave() bool {
	return a.pick.Reason != routing.ReasonForced && !a.call.queues && a.call.busy < maxBusy
}

// responding is called when the peer has begun to answer.
func (a *attempt) responding() {
	if !a.conn.answered.Load() {
		a.conn.answered.Store(true)
	}
	if a.pick.Peer.BackedOff() {
		a.pick.Responding()
	}
}

// done is called by grpc-go once the attempt's stream has ended. The router is told later: only when the call is over without
// another pick is it known that the peer has processed it.
func (a *attempt) done(info balancer.DoneInfo) {
	c := a.call
	a.conn.give()
	if info.Err == nil && !info.BytesSent && !info.BytesReceived {
		// The connection went between our choice and its use. grpc-go picks again, but only with a new picker: the one of the
		// connection's end may have been before this pick.
		c.settle(a, routing.Canceled)
		wake(*c.engine.pool.cc.Load())
		return
	}
	o := a.outcomeOf(info)
	c.mu.Lock()
	a.outcome = o
	over := c.over
	c.mu.Unlock()
	if over {
		c.settle(a, o)
	}
}

func (a *attempt) outcomeOf(info balancer.DoneInfo) routing.Outcome {
	switch {
	case a.stream.ended.Load():
		return routing.Answered
	case info.Err != nil && unprocessed(status.Convert(info.Err)):
		return routing.Canceled // when the call is over; else waiting says what it was
	case a.conn.broken.Load():
		return routing.Lost
	case info.Err != nil && a.call.down.Context().Err() != nil:
		return routing.Canceled
	case info.BytesReceived:
		return routing.Answered
	}
	return routing.Canceled
}

// settle tells the router the outcome, once.
func (c *call) settle(a *attempt, o routing.Outcome) {
	c.mu.Lock()
	was := a.settled
	a.settled = true
	c.mu.Unlock()
	if !was {
		a.pick.Done(o)
	}
}

// sent notes that the attempt's peer was sent the call.
func (c *call) sent(a *attempt) {
	c.mu.Lock()
	a.sent = true
	c.had = a
	c.mu.Unlock()
}

// finish ends the call for the router and gives the last attempt whose peer was sent the call. What an attempt still has to say
// comes later, through done.
func (c *call) finish() (had *attempt) {
	c.mu.Lock()
	c.over = true
	a, had := c.last, c.had
	var o routing.Outcome
	if a != nil {
		if o = a.outcome; a.conn == nil {
			o = routing.Canceled
		}
	}
	c.mu.Unlock()
	if a != nil {
		a.leave()
		if o != 0 {
			c.settle(a, o)
		}
	}
	return had
}

func (c *call) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

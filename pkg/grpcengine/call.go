package grpcengine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// call is the state of one call. It travels in the context of the outgoing call, where picker, dialer and stats handler find it.
type call struct {
	engine  *Engine
	down    grpc.ServerStream // towards the client
	started time.Time

	// What the request said, beside its metadata (outgoing).
	method      string
	authority   string
	subtype     string
	encoding    string
	acceptsGzip bool
	outgoing    metadata.MD

	// request and response are the slots of the two directions; each belongs to one goroutine of the handler.
	request, response frame

	// headerSeen is closed once responseEncoding is set; nil when nobody will ask.
	headerSeen       chan struct{}
	responseEncoding string
	// peerEnded tells that the peer sent trailers: whatever status the call has is the peer's own.
	peerEnded atomic.Bool

	// downErr is what ended the reading from the client, other than its half-close.
	downErr atomic.Pointer[error]

	// The fields below belong to whoever runs pick; grpc-go never runs two at a time for one call.
	route routing.Call
	// firstPick is when the search for a connection began; zero while the call has one.
	firstPick time.Time
	// unprocessed tells that a peer was sent the call and has not processed it.
	unprocessed bool
	// routeErr is why no peer was found.
	routeErr atomic.Pointer[status.Status]
	attempts atomic.Int32

	// mu guards the fields below: the outcome of an attempt may be known after the handler has returned.
	mu   sync.Mutex
	last *attempt
	over bool
}

type callKey struct{}

// callOf finds the call in its context. Every call on the ClientConn is one of ours.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// gotHeader is called by the connection's reader once, when the response headers have come.
func (c *call) gotHeader(encoding string) {
	if c.headerSeen != nil {
		c.responseEncoding = encoding
		close(c.headerSeen)
	}
}

// responseGzipped tells whether the peer sent its messages gzip'd. It is called after the headers have come: grpc-go gives them to
// us a moment before it tells the stats handler.
func (c *call) responseGzipped(ctx context.Context) bool {
	if c.headerSeen == nil {
		return false
	}
	select {
	case <-c.headerSeen:
		return c.responseEncoding == gzip.Name
	case <-ctx.Done():
		return false
	}
}

// attempt is one peer that the router gave for the call.
type attempt struct {
	call *call
	pick routing.Pick

	// While the attempt waits for a connection: which link, how often that had failed when the wait began, and how many times it
	// was asked to connect.
	link     *link
	failures int
	connects int

	// conn is what the call's stream was given to; nil before.
	conn *conn
	// outcome is guarded by call.mu; 0 until the attempt has ended. settled says that the router was told.
	outcome routing.Outcome
	settled bool
}

// pick chooses the connection for the next attempt. The attempt stays with its peer while that one is being connected; it goes to
// another when the peer refuses or has not processed what was sent.
func (c *call) pick() (balancer.PickResult, error) {
	a := c.waiting()
	for {
		if a == nil {
			var err error
			if a, err = c.next(); err != nil {
				return balancer.PickResult{}, err
			}
		}
		switch conn, sc, verdict := c.engine.pool.connect(a); verdict {
		case connected:
			c.mu.Lock()
			a.conn = conn
			c.mu.Unlock()
			c.firstPick = time.Time{}
			return balancer.PickResult{SubConn: sc, Done: a.done}, nil
		case wait:
			return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
		case refused:
			c.settle(a, routing.Refused)
			a = nil
		case gone:
			c.settle(a, routing.Canceled)
			a, c.firstPick = nil, time.Time{}
		}
	}
}

// waiting gives the attempt that waits for its connection, if there is one. When the last attempt has had a stream, grpc-go asks
// again only because the peer has provably not processed it.
func (c *call) waiting() *attempt {
	c.mu.Lock()
	a := c.last
	settled := a != nil && a.settled
	c.mu.Unlock()
	switch {
	case a == nil || settled:
		return nil
	case a.conn == nil:
		return a
	}
	c.unprocessed = true
	c.settle(a, routing.Unprocessed)
	return nil
}

// next asks the router for a peer.
func (c *call) next() (*attempt, error) {
	if c.firstPick.IsZero() {
		c.firstPick = time.Now()
	} else if time.Since(c.firstPick) > 2*c.engine.cfg.ConnectTimeout {
		return nil, c.fail(status.New(codes.Unavailable, fmt.Sprintf("no peer accepted a connection for %s within %v (%d tried)",
			c.method, time.Since(c.firstPick).Round(time.Millisecond), c.attempts.Load())))
	}
	p, err := c.engine.cfg.Router.Route(&c.route)
	if err != nil && c.unprocessed {
		// Nobody else can take it, but the peer that went away (GOAWAY) or was full (REFUSED_STREAM) may on a new connection.
		c.unprocessed = false
		c.route = routing.Call{Method: c.route.Method, Service: c.route.Service, ForceInstance: c.route.ForceInstance}
		p, err = c.engine.cfg.Router.Route(&c.route)
	}
	if err != nil {
		return nil, c.fail(routeStatus(err))
	}
	a := &attempt{call: c, pick: p}
	c.mu.Lock()
	over := c.over
	if !over {
		c.last = a
	}
	c.mu.Unlock()
	if over {
		p.Done(routing.Canceled)
		return nil, status.Error(codes.Canceled, "the call is over")
	}
	c.attempts.Add(1)
	return a, nil
}

func (c *call) fail(st *status.Status) error {
	c.routeErr.Store(st)
	return st.Err()
}

// done is called by grpc-go once the attempt's stream has ended. The router is told later: only when the call is over without
// another pick is it known that the peer has processed it.
func (a *attempt) done(info balancer.DoneInfo) {
	c := a.call
	a.conn.streams.Add(-1)
	if info.Err == nil && !info.BytesSent && !info.BytesReceived {
		// The connection went between our choice and its use; grpc-go picks again.
		c.settle(a, routing.Canceled)
		return
	}
	o := c.outcome(a, info)
	c.mu.Lock()
	a.outcome = o
	over := c.over
	c.mu.Unlock()
	if over {
		c.settle(a, o)
	}
}

func (c *call) outcome(a *attempt, info balancer.DoneInfo) routing.Outcome {
	switch {
	case c.peerEnded.Load():
		return routing.Answered
	case a.conn.broken.Load():
		return routing.Lost
	case info.Err != nil && c.down.Context().Err() != nil:
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

// finish ends the call for the router. What an attempt still has to say comes later, through done.
func (c *call) finish() (last *attempt) {
	c.mu.Lock()
	c.over = true
	a := c.last
	var o routing.Outcome
	if a != nil {
		if o = a.outcome; a.conn == nil {
			o = routing.Canceled
		}
	}
	c.mu.Unlock()
	if a != nil && o != 0 {
		c.settle(a, o)
	}
	return a
}

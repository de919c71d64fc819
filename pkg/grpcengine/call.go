package grpcengine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

const (
	// maxBusy is how many peers without room a call passes over before it waits for one of them.
	maxBusy = 8
	// maxUnused is how many connections that go at once a call may get before the time of its search is no longer begun anew.
	maxUnused = 4
	// While a call waits for room, it looks for room elsewhere after minRecheck, then ever less often.
	minRecheck = 50 * time.Millisecond
	maxRecheck = time.Second
)

// call is the state of one call. It travels in the context of the outgoing call, where picker and stats handler find it.
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

	// downErr is what ended the reading from the client, other than its half-close.
	downErr atomic.Pointer[error]

	// The fields below belong to whoever runs pick: first the handler, then grpc-go, which never runs two at a time for one call.
	route routing.Call
	// held is the attempt with the connection for the first stream, until grpc-go asks for it.
	held *attempt
	// firstPick is when the search for a connection began; zero while none is looked for.
	firstPick time.Time
	// unprocessed tells that a peer was sent the call and has not processed it, busy how many had no room, and queues that the call
	// waits where there is none.
	unprocessed bool
	busy        int
	queues      bool
	// refusers are the peers that have not processed the call, and unused is how many connections in a row went before they were of use.
	refusers []*routing.Peer
	unused   int

	// woken gets a token when it is worth while to pick again. It is made when the call first waits. Once inGRPC is set, it is
	// grpc-go that waits, for a new picker: with a call that it replays.
	woken  chan struct{}
	inGRPC atomic.Bool

	// routeErr is why no peer was found.
	routeErr atomic.Pointer[routeError]
	attempts atomic.Int32

	// mu guards the fields below: the outcome of an attempt may be known after the handler has returned.
	mu sync.Mutex
	// last is the last attempt, had the last one whose peer was sent the call.
	last, had *attempt
	over      bool
}

// routeError is a failure to find a peer; service is the one that was looked for, if that is known.
type routeError struct {
	st      *status.Status
	service string
}

type callKey struct{}

// callOf finds the call in its context. Every call on the ClientConn is one of ours.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// acquire finds the connection for the call's first stream, and waits until there is one. It gives the status why there is none.
func (c *call) acquire(ctx context.Context) error {
	for pause := minRecheck; ; {
		a, err := c.pick()
		if !errors.Is(err, balancer.ErrNoSubConnAvailable) {
			c.held = a
			return err
		}
		elapsed, err := c.await(ctx, a, pause)
		if err != nil {
			return err
		}
		if elapsed {
			c.reconsider(a)
			pause = min(2*pause, maxRecheck)
		}
	}
}

// await waits until the call is woken, or until it is time to look for room elsewhere: another peer may have got some, or be new.
func (c *call) await(ctx context.Context, a *attempt, pause time.Duration) (elapsed bool, err error) {
	var recheck <-chan time.Time
	if a.full && a.pick.Reason != routing.ReasonForced {
		t := time.NewTimer(pause)
		defer t.Stop()
		recheck = t.C
	}
	select {
	case <-c.woken:
		return false, nil
	case <-recheck:
		return true, nil
	case <-ctx.Done():
		return false, status.FromContextError(ctx.Err()).Err()
	}
}

// reconsider gives a peer without room up, and the memory of others that had none. The call keeps its age, so it loses no place.
func (c *call) reconsider(a *attempt) {
	a.leave()
	c.settle(a, routing.Canceled)
	c.attempts.Add(-1)
	c.busy, c.queues = 0, false
	c.forget()
}

// release gives back a connection that grpc-go did not come to ask for.
func (c *call) release() {
	if a := c.held; a != nil {
		c.held = nil
		a.done(balancer.DoneInfo{})
	}
}

// wake has the call pick again.
func (c *call) wake() {
	if c.inGRPC.Load() {
		wake(*c.engine.pool.cc.Load())
		return
	}
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// pick chooses the connection for the next attempt. The attempt stays with its peer while that one is being connected; it goes to
// another when the peer refuses, has no room, or has not processed what was sent. ErrNoSubConnAvailable says that it has to wait.
func (c *call) pick() (*attempt, error) {
	a := c.waiting()
	for {
		if a == nil {
			var err error
			if a, err = c.next(); err != nil {
				return nil, err
			}
		}
		conn, sub, verdict := c.engine.pool.connect(a)
		if verdict == wait {
			if c.isOver() {
				a.leave()
				return nil, status.Error(codes.Canceled, "the call is over")
			}
			if a.full {
				c.firstPick = time.Time{} // room may take as long as the client waits
			}
			return a, balancer.ErrNoSubConnAvailable
		}
		a.leave()
		switch verdict {
		case connected:
			a.sub = sub
			c.mu.Lock()
			a.conn = conn
			c.mu.Unlock()
			if c.unused++; c.unused <= maxUnused {
				c.firstPick = time.Time{}
			}
			return a, nil
		case busy:
			c.busy++
			c.attempts.Add(-1)
			c.settle(a, routing.Unprocessed)
		case refused:
			c.settle(a, routing.Refused)
		case gone:
			c.settle(a, routing.Canceled)
			c.firstPick = time.Time{}
		}
		a = nil
	}
}

// waiting gives the attempt that waits for its connection, if there is one. When the last attempt has had a connection, grpc-go asks
// again only because the peer has provably not processed the call.
func (c *call) waiting() *attempt {
	c.mu.Lock()
	a := c.last
	settled := a != nil && a.settled
	sent := a != nil && a.sent
	c.mu.Unlock()
	switch {
	case a == nil || settled:
		return nil
	case a.conn == nil:
		return a
	}
	if sent {
		c.firstPick, c.unused = time.Time{}, 0
		c.refusers = append(c.refusers, a.pick.Peer)
	}
	c.unprocessed = true
	c.settle(a, routing.Unprocessed)
	return nil
}

// next asks the router for a peer.
func (c *call) next() (*attempt, error) {
	if c.firstPick.IsZero() {
		c.firstPick = time.Now()
	} else if c.searchedTooLong() {
		return nil, c.fail(status.New(codes.Unavailable, fmt.Sprintf("no peer accepted a connection for %s within %v (%d tried)",
			c.method, time.Since(c.firstPick).Round(time.Millisecond), c.attempts.Load())), "")
	}
	p, err := c.engine.cfg.Router.Route(&c.route)
	if err != nil && (c.unprocessed || c.busy > 0 && !c.queues) {
		// Nobody else can take it. But the peer that went away (GOAWAY) or refused (REFUSED_STREAM) may on a new connection, and those
		// without room may have some soon.
		c.unprocessed, c.queues = false, c.busy > 0
		p, err = c.routeAnew()
	}
	if err != nil {
		return nil, c.fail(routeStatus(err), serviceOf(err))
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

// routeAnew routes the call as if it had tried nobody. It prefers a peer that may get room to one that has refused the call: grpc-go
// replays a call that was sent once only.
func (c *call) routeAnew() (routing.Pick, error) {
	router := c.engine.cfg.Router
	c.forget()
	p, err := router.Route(&c.route)
	for err == nil && c.queues && slices.Contains(c.refusers, p.Peer) {
		p.Done(routing.Unprocessed)
		p, err = router.Route(&c.route)
	}
	if err != nil && c.queues {
		c.forget()
		p, err = router.Route(&c.route)
	}
	return p, err
}

func (c *call) searchedTooLong() bool {
	return !c.firstPick.IsZero() && time.Since(c.firstPick) > 2*c.engine.cfg.ConnectTimeout
}

// forget makes all peers eligible again.
func (c *call) forget() {
	c.route = routing.Call{Method: c.route.Method, Service: c.route.Service, ForceInstance: c.route.ForceInstance}
}

func (c *call) fail(st *status.Status, service string) error {
	c.routeErr.Store(&routeError{st, service})
	return st.Err()
}

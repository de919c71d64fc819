package grpcengine

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// statusOf makes the call's status of what the handler returned. The handler returns a peer's status as it is, and hides what ended
// the reading from the client in an INTERNAL of its own.
func (c *call) statusOf(err error) *status.Status {
	var e *ended
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e.st
	}
	if down := c.downErr.Load(); down != nil {
		return c.downStatus(*down)
	}
	return c.downStatus(err)
}

// downStatus is the status of a call that the client's side ended: it cancelled, its deadline passed, its connection broke or what it
// sent was malformed.
func (c *call) downStatus(err error) *status.Status {
	if ctxErr := c.down.Context().Err(); ctxErr != nil {
		return status.FromContextError(ctxErr)
	}
	return status.Convert(err)
}

// upstreamStatus is the status of a call that ended on the peer's side, or for want of a peer.
func (c *call) upstreamStatus(err error) *status.Status {
	if st := c.routeErr.Load(); st != nil {
		return st
	}
	st := status.Convert(err)
	if c.peerEnded.Load() {
		// The details go on with the trailers, byte for byte. Left in the status, they would be encoded anew.
		return status.New(st.Code(), st.Message())
	}
	if ctxErr := c.down.Context().Err(); ctxErr != nil {
		return status.FromContextError(ctxErr)
	}
	c.mu.Lock()
	a := c.last
	lost := a != nil && a.conn != nil && a.conn.broken.Load()
	c.mu.Unlock()
	if lost {
		p := a.pick.Peer
		return status.New(codes.Unavailable, fmt.Sprintf("peer lost: the connection to instance %s at %s broke during the call: %s",
			p.Key, p.Address, st.Message()))
	}
	return st
}

// routeStatus is the status of a routing error.
func routeStatus(err error) *status.Status {
	var re *routing.Error
	if errors.As(err, &re) {
		return status.New(codes.Code(re.Code), re.Message)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err)
	}
	return status.New(codes.Unavailable, err.Error())
}

package grpcengine

import (
	"context"
	"errors"
	"fmt"
	"strings"

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

// upstreamStatus is the status of a call that ended on the peer's side, or for want of a peer. s is the stream that ended, nil if there
// was none.
func (c *call) upstreamStatus(s *stream, err error) *status.Status {
	if e := c.routeErr.Load(); e != nil {
		return e.st
	}
	st := status.Convert(err)
	if s != nil && s.ended.Load() {
		// The details go on with the trailers, byte for byte. Left in the status, they would be encoded anew.
		return status.New(st.Code(), st.Message())
	}
	if ctxErr := c.down.Context().Err(); ctxErr != nil {
		return status.FromContextError(ctxErr)
	}
	c.mu.Lock()
	a := c.last
	var on *conn
	if a != nil {
		on = a.conn
	}
	c.mu.Unlock()
	if on == nil {
		return st
	}
	p := a.pick.Peer
	switch {
	case headersTooLarge(st):
		return status.New(codes.ResourceExhausted, fmt.Sprintf("instance %s at %s accepts header lists of %d bytes at most "+
			"(its SETTINGS_MAX_HEADER_LIST_SIZE), and the call's metadata is larger", p.Key, p.Address, on.headerLimit.Load()))
	case unprocessed(st):
		return status.New(codes.Unavailable, fmt.Sprintf("instance %s at %s did not process the call, and it could not be given "+
			"to another: %s", p.Key, p.Address, st.Message()))
	case on.broken.Load():
		return status.New(codes.Unavailable, fmt.Sprintf("peer lost: the connection to instance %s at %s broke during the call: %s",
			p.Key, p.Address, st.Message()))
	}
	return st
}

// What follows knows grpc-go's own words, because it tells these cases by nothing else. They are only looked for where the peer has
// not sent a status of its own.

// unprocessed tells whether the peer has said that it did not process the call: by GOAWAY or by REFUSED_STREAM.
func unprocessed(st *status.Status) bool {
	if st.Code() != codes.Unavailable {
		return false
	}
	m := st.Message()
	return m == "the connection is draining" || m == "the stream is rejected because server is draining the connection" ||
		strings.HasSuffix(m, "RST_STREAM with error code: REFUSED_STREAM")
}

// headersTooLarge tells whether the peer's SETTINGS_MAX_HEADER_LIST_SIZE keeps the call from being sent.
func headersTooLarge(st *status.Status) bool {
	return st.Code() == codes.Internal && strings.HasPrefix(st.Message(), "header list size to send violates the maximum size")
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

// serviceOf is the service that a routing error is about, as far as that is known.
func serviceOf(err error) string {
	var re *routing.Error
	if errors.As(err, &re) {
		return re.Service
	}
	return ""
}

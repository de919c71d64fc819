package grpcengine

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// upstreams makes the peer's side of calls. Which peer that is, the balancer decides.
type upstreams struct{ cc *grpc.ClientConn }

// Invoke is not used: the handler only makes streams.
func (upstreams) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return errors.ErrUnsupported
}

// NewStream starts the call. It returns when a peer has been found and the call's headers are on their way, or with the status why
// there is none.
func (u upstreams) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	c := callOf(ctx)
	var few [3]grpc.CallOption
	opts := few[:0]
	if c.authority != "" {
		opts = append(opts, grpc.CallAuthority(c.authority))
	}
	if c.subtype != "" {
		opts = append(opts, grpc.CallContentSubtype(c.subtype))
	}
	if c.encoding == gzip.Name {
		opts = append(opts, grpc.UseCompressor(gzip.Name))
	}
	if err := c.acquire(ctx); err != nil {
		return nil, &ended{c.upstreamStatus(nil, err)}
	}
	c.inGRPC.Store(true)
	cs, err := u.cc.NewStream(metadata.NewOutgoingContext(ctx, c.outgoing), desc, method, opts...)
	if err != nil {
		c.release()
		return nil, &ended{c.upstreamStatus(nil, err)}
	}
	return &upstream{ClientStream: cs, call: c}, nil
}

// upstream is the peer's side of a call as the handler sees it.
type upstream struct {
	grpc.ClientStream
	call       *call
	headerDone bool // belongs to the goroutine that receives
}

// RecvMsg receives the next message. Before the first it awaits the peer's headers and passes them on, so that they arrive when they
// were sent and not with a message that may come much later, or never.
func (u *upstream) RecvMsg(any) error {
	c := u.call
	if !u.headerDone {
		u.headerDone = true
		// Header gives nil when there were none: the response is Trailers-Only, or the call failed. RecvMsg says which.
		if md, err := u.ClientStream.Header(); err == nil && md != nil {
			if err := c.sendHeader(streamOf(u.ClientStream.Context()), md); err != nil {
				return &ended{c.downStatus(err)}
			}
		}
	}
	err := u.ClientStream.RecvMsg(&c.response)
	if err == nil || err == io.EOF {
		return err
	}
	return &ended{c.upstreamStatus(streamOf(u.ClientStream.Context()), err)}
}

// SendMsg sends the client's message on. Once the call has ended it gives io.EOF, for which the handler waits for RecvMsg's verdict:
// only that one knows how the call ended.
func (u *upstream) SendMsg(any) error {
	defer u.call.request.free()
	if u.ClientStream.SendMsg(&u.call.request) != nil {
		return io.EOF
	}
	return nil
}

// Trailer gives what may go to the client.
func (u *upstream) Trailer() metadata.MD {
	md := u.ClientStream.Trailer()
	u.call.cleanResponse(md)
	return md
}

// Header must not be asked again by the handler: grpc-go's second answer would cost another copy that goes nowhere.
func (u *upstream) Header() (metadata.MD, error) { return nil, nil }

// ended carries the final status of a call through the handler, so that it can be told from the handler's own words.
type ended struct{ st *status.Status }

func (e *ended) Error() string { return e.st.Message() }

// GRPCStatus is how grpc-go learns the status.
func (e *ended) GRPCStatus() *status.Status { return e.st }

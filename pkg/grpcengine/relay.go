package grpcengine

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// transportStream is what grpc-go's server streams offer beside the public interface.
type transportStream interface {
	RecvCompress() string
	ContentSubtype() string
}

// relay is the handler of every call that is not for a service of our own.
func (e *Engine) relay(srv any, down grpc.ServerStream) error {
	c := &call{engine: e, down: down, started: time.Now()}
	e.inFlight.Add(1)
	if e.cfg.Observer != nil {
		e.cfg.Observer.CallStarted()
	}
	c.method, _ = grpc.MethodFromServerStream(down)
	c.route.Method = c.method
	c.takeRequest()
	ctx := context.WithValue(down.Context(), callKey{}, c)
	st := c.statusOf(e.proxy(srv, &downstream{ServerStream: down, call: c, ctx: ctx}))
	last := c.finish()
	e.inFlight.Add(-1)
	if e.cfg.Observer != nil {
		info := CallInfo{Method: c.method, Code: st.Code(), Latency: time.Since(c.started), Attempts: int(c.attempts.Load())}
		if last != nil {
			info.Service, info.PeerID, info.PeerRegion = last.pick.Service, last.pick.Peer.Key.ID, last.pick.Peer.Region
		}
		e.cfg.Observer.CallEnded(info)
	}
	return st.Err()
}

// takeRequest reads what the client's headers say and makes the metadata for the peer of the rest.
func (c *call) takeRequest() {
	ctx := c.down.Context()
	if ts, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream); ok {
		c.subtype, c.encoding = ts.ContentSubtype(), ts.RecvCompress()
	}
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	c.takeMetadata(md)
	c.outgoing = md
	if c.acceptsGzip {
		c.headerSeen = make(chan struct{})
	}
}

// direct is the handler's director: it gives every call to the ClientConn that serves all peers.
func (e *Engine) direct(ctx context.Context, _ string) (context.Context, grpc.ClientConnInterface, error) {
	return ctx, upstreams{e.cc}, nil
}

// downstream is the client's side of a call as the handler sees it. The handler passes an empty protobuf message; what is carried
// is in the call's slots.
type downstream struct {
	grpc.ServerStream
	call *call
	ctx  context.Context
}

// Context carries the call to [upstreams.NewStream], which the handler calls with a descendant.
func (d *downstream) Context() context.Context { return d.ctx }

func (d *downstream) RecvMsg(any) error {
	err := d.ServerStream.RecvMsg(&d.call.request)
	if err != nil && err != io.EOF {
		d.call.downErr.Store(&err)
	}
	return err
}

func (d *downstream) SendMsg(any) error {
	defer d.call.response.free()
	return d.ServerStream.SendMsg(&d.call.response)
}

// SendHeader does nothing: the headers went out when they came, before the first message (see [upstream.RecvMsg]).
func (d *downstream) SendHeader(metadata.MD) error { return nil }

// sendHeader passes the peer's response headers to the client.
func (c *call) sendHeader(md metadata.MD) error {
	ctx := c.down.Context()
	name := encoding.Identity
	if c.responseGzipped(ctx) {
		name = gzip.Name
	}
	// Unless it is told, grpc-go answers in the encoding of the request.
	if name != encoding.Identity || c.encoding != "" {
		if err := grpc.SetSendCompressor(ctx, name); err != nil {
			return status.Errorf(codes.Internal, "set response encoding %s: %v", name, err)
		}
	}
	c.cleanResponse(md)
	return c.down.SendHeader(md)
}

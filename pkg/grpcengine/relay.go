package grpcengine

import (
	"context"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/engine"
)

// transportStream is what grpc-go's server streams offer beside the public interface.
type transportStream interface {
	RecvCompress() string
	ContentSubtype() string
}

// relay is the handler of every call that is not for a method of our own.
func (e *Engine) relay(srv any, down grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(down)
	if _, ours := e.own[grpcService(method)]; ours {
		return status.Errorf(codes.Unimplemented, "unknown method %s: flyproxy answers this service itself", method)
	}
	c := &call{engine: e, down: down, started: time.Now(), method: method}
	e.inFlight.Add(1)
	if e.cfg.Observer != nil {
		e.cfg.Observer.CallStarted()
	}
	c.route.Method = c.method
	c.takeRequest()
	ctx := context.WithValue(down.Context(), callKey{}, c)
	st := c.statusOf(e.proxy(srv, &downstream{ServerStream: down, call: c, ctx: ctx}))
	had := c.finish()
	e.inFlight.Add(-1)
	if e.cfg.Observer != nil {
		info := engine.CallInfo{Method: c.method, Code: st.Code(), Latency: time.Since(c.started), Attempts: int(c.attempts.Load())}
		info.Service = c.service()
		if had != nil {
			info.PeerID, info.PeerRegion = had.pick.Peer.Key.ID, had.pick.Peer.Region
		}
		e.cfg.Observer.CallEnded(info)
	}
	return st.Err()
}

// grpcService is "package.Service" of "/package.Service/Method", read as grpc-go's server reads it.
func grpcService(method string) string {
	i := strings.LastIndexByte(method, '/')
	return strings.TrimPrefix(method[:max(i, 0)], "/")
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
}

// service is flyproxy's service that the call was for, as far as that is known.
func (c *call) service() string {
	c.mu.Lock()
	a := c.last
	c.mu.Unlock()
	if a != nil {
		return a.pick.Service
	}
	if e := c.routeErr.Load(); e != nil {
		return e.service
	}
	return ""
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

// sendHeader passes the peer's response headers to the client; s is the stream on which they came.
func (c *call) sendHeader(s *stream, md metadata.MD) error {
	ctx := c.down.Context()
	name := encoding.Identity
	if s.responseEncoding(ctx) == gzip.Name {
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

package grpcengine

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// stream is one try of grpc-go at a call's stream to a peer, and the context of that try. A call has another one when grpc-go
// replays it; what is learned of the first must not be taken for the second's.
type stream struct {
	context.Context
	call *call
	// attempt is set when the stream's peer has been picked.
	attempt *attempt

	// headed is closed once encoding is set, which is when the response headers have come; nil when nobody will ask.
	headed   chan struct{}
	encoding string
	begun    atomic.Bool
	// ended tells that the peer sent trailers: whatever status the stream has is the peer's own.
	ended atomic.Bool
}

type streamKey struct{}

// Value makes the stream be found in its own context.
func (s *stream) Value(key any) any {
	if key == (streamKey{}) {
		return s
	}
	return s.Context.Value(key)
}

// streamOf finds the stream in its context. It is nil in the context of a call that has none.
func streamOf(ctx context.Context) *stream {
	s, _ := ctx.Value(streamKey{}).(*stream)
	return s
}

// gotHeader is called by the connection's reader when response headers have come.
func (s *stream) gotHeader(encoding string) {
	if s.begun.Swap(true) {
		return
	}
	s.encoding = encoding
	if s.headed != nil {
		close(s.headed)
	}
	s.attempt.responding()
}

// gotTrailer is called by the connection's reader when trailers, or a response that has nothing else, have come.
func (s *stream) gotTrailer() {
	s.ended.Store(true)
	s.attempt.responding()
}

// responseEncoding is what the peer encodes its messages with. It is called after the headers have come: grpc-go gives them to us
// a moment before it tells the stats handler.
func (s *stream) responseEncoding(ctx context.Context) string {
	if s == nil || s.headed == nil {
		return ""
	}
	select {
	case <-s.headed:
		return s.encoding
	case <-ctx.Done():
		return ""
	}
}

// streamStats learns of each stream what grpc.ClientStream does not tell. grpc-go tags every try of a call anew.
type streamStats struct{}

func (streamStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	s := &stream{Context: ctx, call: callOf(ctx)}
	if s.call.acceptsGzip {
		s.headed = make(chan struct{})
	}
	return s
}

func (streamStats) HandleRPC(ctx context.Context, event stats.RPCStats) {
	switch e := event.(type) {
	case *stats.OutHeader:
		if s := streamOf(ctx); s != nil {
			s.call.sent(s.attempt)
		}
	case *stats.InHeader:
		if s := streamOf(ctx); s != nil {
			s.gotHeader(e.Compression)
		}
	case *stats.InTrailer:
		if s := streamOf(ctx); s != nil {
			s.gotTrailer()
		}
	}
}

func (streamStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (streamStats) HandleConn(context.Context, stats.ConnStats)                       {}

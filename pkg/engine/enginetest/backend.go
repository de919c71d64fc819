package enginetest

import (
	"io"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// Message is any bytes, as gRPC carries them.
type Message []byte

// Codec passes Messages as they are. Its Subtype is that of the content type, application/grpc+subtype; empty means none.
type Codec struct{ Subtype string }

// Name gives the subtype.
func (c Codec) Name() string { return c.Subtype }

// Marshal takes a *Message.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*Message))}, nil
}

// Unmarshal fills a *Message.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*Message) = data.Materialize()
	return nil
}

// Backend is a peer: a gRPC server whose one handler answers every method.
type Backend struct {
	Address string
	Server  *grpc.Server
	// Calls counts the calls that reached the handler.
	Calls atomic.Int64
}

// Handler answers a call.
type Handler = func(b *Backend, s grpc.ServerStream) error

// Echo returns every message, then OK.
func Echo(_ *Backend, s grpc.ServerStream) error {
	for {
		var m Message
		if err := s.RecvMsg(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(&m); err != nil {
			return err
		}
	}
}

// Hold sends response headers at once, and echoes when release is closed; never, when it is nil.
func Hold(release <-chan struct{}) Handler {
	return func(b *Backend, s grpc.ServerStream) error {
		if err := s.SendHeader(nil); err != nil {
			return err
		}
		select {
		case <-release:
			return Echo(b, s)
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// Listen listens on a TCP address.
func Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// StartBackend runs a peer on a port of its own until the test's end.
func StartBackend(t testing.TB, h Handler, opts ...grpc.ServerOption) *Backend {
	t.Helper()
	return startBackendOn(t, Listen(t, "127.0.0.1:0"), h, opts...)
}

func startBackendOn(t testing.TB, l net.Listener, h Handler, opts ...grpc.ServerOption) *Backend {
	t.Helper()
	b := &Backend{Address: l.Addr().String()}
	opts = append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(Codec{}),
		grpc.MaxRecvMsgSize(64 << 20),
		grpc.MaxHeaderListSize(1 << 20),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			b.Calls.Add(1)
			return h(b, s)
		}),
	}, opts...)
	b.Server = grpc.NewServer(opts...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Server.Serve(l)
	}()
	t.Cleanup(func() {
		b.Server.Stop()
		<-done
	})
	return b
}

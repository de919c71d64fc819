package interop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // an app that takes and gives compressed messages
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// app is the service of test/clients/README.md on grpc-go.
type app struct {
	Address string

	// mu guards the fields below.
	mu    sync.Mutex
	noted map[string]outcome // by x-note
	// gathered is how many calls with x-gather are there; all is closed when they are as many as asked for.
	gathered int
	all      chan struct{}
}

// outcome is how a call went.
type outcome struct {
	Err    error // of the call's context, when the handler was through with it
	Late   bool  // that was after the call's deadline
	Zipped bool  // the request was compressed
}

// startApp runs it until the test's end.
func startApp(t *testing.T, options ...grpc.ServerOption) *app {
	a := &app{noted: make(map[string]outcome), all: make(chan struct{})}
	s := grpc.NewServer(append(options, grpc.ForceServerCodec(plain{}), grpc.StatsHandler(a))...)
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "flyproxy.interop.Echo", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "Unary", Handler: a.handler(unary)},
		{StreamName: "Down", Handler: a.handler(down), ServerStreams: true},
		{StreamName: "Up", Handler: a.handler(up), ClientStreams: true},
		{StreamName: "Both", Handler: a.handler(both), ServerStreams: true, ClientStreams: true},
	}}, a)
	l := listen(t)
	a.Address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return a
}

// outcome is how the call noted under that name ended; ok is false while it has not.
func (a *app) outcome(note string) (o outcome, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, ok = a.noted[note]
	return o, ok
}

// forget makes room for the next client.
func (a *app) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.noted)
	a.gathered, a.all = 0, make(chan struct{})
}

// asked gives the first value of a key of the call's metadata.
func asked(ctx context.Context, key string) string {
	if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// handler does what the call's metadata asks for around a method.
func (a *app) handler(method func(grpc.ServerStream) error) grpc.StreamHandler {
	return func(_ any, ss grpc.ServerStream) error {
		ctx := ss.Context()
		if note := asked(ctx, "x-note"); note != "" {
			defer func() {
				a.mu.Lock()
				defer a.mu.Unlock()
				deadline, has := ctx.Deadline()
				a.noted[note] = outcome{ctx.Err(), has && time.Now().After(deadline), ctx.Value(callKey{}).(*callStats).zipped}
			}()
		}
		echo := metadata.MD{}
		for _, key := range []string{"x-echo-text", "x-echo-bin"} {
			echo.Append(key, metadata.ValueFromIncomingContext(ctx, key)...)
		}
		if err := ss.SetHeader(echo); err != nil {
			return err
		}
		ss.SetTrailer(echo)
		if asked(ctx, "x-gzip") != "" {
			if err := grpc.SetSendCompressor(ctx, "gzip"); err != nil {
				return err
			}
		}
		if asked(ctx, "x-fail") != "" {
			return status.ErrorProto(failure())
		}
		if err := a.wait(ctx); err != nil {
			return err
		}
		if err := method(ss); err != nil {
			return err
		}
		if asked(ctx, "x-stay") != "" {
			<-ctx.Done()
		}
		return nil
	}
}

// wait is for x-wait-ms and x-gather.
func (a *app) wait(ctx context.Context) error {
	if ms, err := strconv.Atoi(asked(ctx, "x-wait-ms")); err == nil {
		timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	if n, err := strconv.Atoi(asked(ctx, "x-gather")); err == nil {
		a.mu.Lock()
		all := a.all
		if a.gathered++; a.gathered == n {
			close(all)
		}
		a.mu.Unlock()
		select {
		case <-all:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	return nil
}

// failure is the status of a call that fails: its message has what grpc-message must encode.
func failure() *spb.Status {
	detail, err := anypb.New(wrapperspb.Bytes([]byte{0, 1, 0xfe, 0xff}))
	if err != nil {
		panic(err)
	}
	return &spb.Status{
		Code: int32(codes.FailedPrecondition), Message: "100% «naïve»\n\tcafé ☕ 🚀", Details: []*anypb.Any{detail},
	}
}

func unary(ss grpc.ServerStream) error {
	var m []byte
	if err := ss.RecvMsg(&m); err != nil {
		return err
	}
	return ss.SendMsg(m)
}

func down(ss grpc.ServerStream) error {
	var m []byte
	if err := ss.RecvMsg(&m); err != nil {
		return err
	}
	n, err := strconv.Atoi(string(m))
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	for i := range n {
		if err := ss.SendMsg([]byte(strconv.Itoa(i))); err != nil {
			return err
		}
	}
	return nil
}

func up(ss grpc.ServerStream) error {
	count, size := 0, 0
	for {
		var m []byte
		if err := ss.RecvMsg(&m); errors.Is(err, io.EOF) {
			return ss.SendMsg(fmt.Appendf(nil, "%d %d", count, size))
		} else if err != nil {
			return err
		}
		count, size = count+1, size+len(m)
	}
}

func both(ss grpc.ServerStream) error {
	for {
		var m []byte
		if err := ss.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := ss.SendMsg(m); err != nil {
			return err
		}
	}
}

// callStats is what grpc-go tells only a stats handler.
type callStats struct{ zipped bool }

type callKey struct{}

func (a *app) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, callKey{}, &callStats{})
}

// HandleRPC is called for the headers before the handler runs.
func (a *app) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if h, ok := s.(*stats.InHeader); ok {
		ctx.Value(callKey{}).(*callStats).zipped = h.Compression == "gzip"
	}
}

func (a *app) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (a *app) HandleConn(context.Context, stats.ConnStats)                       {}

// plain is a codec whose messages are bytes.
type plain struct{}

func (plain) Name() string                  { return "proto" } // no content-subtype
func (plain) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (plain) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

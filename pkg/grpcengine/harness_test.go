package grpcengine_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"

	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

const patience = 10 * time.Second

// message is any bytes; bytesCodec passes them as they are.
type message []byte

type bytesCodec struct{ name string }

func (c bytesCodec) Name() string { return c.name }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*message))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*message) = data.Materialize()
	return nil
}

var bidi = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// backend is a gRPC server whose one handler answers every method.
type backend struct {
	address string
	server  *grpc.Server
	calls   atomic.Int64
	key     registry.Key
}

type handler = func(b *backend, s grpc.ServerStream) error

// echo returns every message, then OK.
func echo(_ *backend, s grpc.ServerStream) error {
	for {
		var m message
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

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func startBackend(t testing.TB, h handler, opts ...grpc.ServerOption) *backend {
	t.Helper()
	return startBackendAt(t, listen(t, "127.0.0.1:0"), h, opts...)
}

func startBackendAt(t testing.TB, l net.Listener, h handler, opts ...grpc.ServerOption) *backend {
	t.Helper()
	b := &backend{address: l.Addr().String()}
	opts = append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(bytesCodec{}),
		grpc.MaxRecvMsgSize(64 << 20),
		grpc.MaxHeaderListSize(1 << 20),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			b.calls.Add(1)
			return h(b, s)
		}),
	}, opts...)
	b.server = grpc.NewServer(opts...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.server.Serve(l)
	}()
	t.Cleanup(func() {
		b.server.Stop()
		<-done
	})
	return b
}

// sidecar is an engine with its router and its listener.
type sidecar struct {
	t       testing.TB
	engine  *grpcengine.Engine
	router  *routing.Router
	address string
	serving chan error

	mu      sync.Mutex
	version uint64
}

type options struct {
	routing  func(*routing.Config)
	engine   func(*grpcengine.Config)
	register func(grpc.ServiceRegistrar)
}

func startSidecar(t testing.TB, o options) *sidecar {
	t.Helper()
	rc := routing.Config{
		Service: "app", Region: "fra", Policy: routing.RoundRobin, PreferRegion: true, SelfMode: routing.SelfLast,
		Headers: routing.Headers{Service: "flyproxy-service", ForceInstance: "fly-force-instance-id"},
	}
	if o.routing != nil {
		o.routing(&rc)
	}
	router, err := routing.New(rc)
	if err != nil {
		t.Fatal(err)
	}
	ec := grpcengine.Config{Router: router, ConnectTimeout: time.Second}
	if o.engine != nil {
		o.engine(&ec)
	}
	e, err := grpcengine.New(ec)
	if err != nil {
		t.Fatal(err)
	}
	if o.register != nil {
		e.Register(o.register)
	}
	l := listen(t, "127.0.0.1:0")
	s := &sidecar{t: t, engine: e, router: router, address: l.Addr().String(), serving: make(chan error, 1)}
	go func() { s.serving <- e.Serve(l) }()
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-s.serving; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// instance is a backend's entry.
func instance(id, address string) registry.Instance {
	return registry.Instance{
		Service: "app", ID: id, Incarnation: "1", Schema: 1, Region: "fra", Address: address, State: registry.Serving,
	}
}

// set puts these instances, and no others, in force.
func (s *sidecar) set(instances ...registry.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	v := &registry.View{Version: s.version, Source: registry.FromRegistry}
	for _, in := range instances {
		v.Entries = append(v.Entries, registry.Entry{Instance: in})
	}
	s.router.Update(v)
}

func (s *sidecar) use(backends ...*backend) {
	var in []registry.Instance
	for i, b := range backends {
		b.key = registry.Key{Service: "app", ID: fmt.Sprint("i", i)}
		in = append(in, instance(b.key.ID, b.address))
	}
	s.set(in...)
}

// dial gives a client of address.
func dial(t testing.TB, address string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithMaxHeaderListSize(1 << 20),
		grpc.WithNoProxy(),
	}, opts...)
	cc, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

const method = "/test.Test/Call"

// call makes one unary call.
func unary(ctx context.Context, cc *grpc.ClientConn, body string, opts ...grpc.CallOption) (string, error) {
	in, out := message(body), message(nil)
	err := cc.Invoke(ctx, method, &in, &out, opts...)
	return string(out), err
}

// pair is a sidecar with one backend and a client.
func pair(t testing.TB, h handler) (*sidecar, *backend, *grpc.ClientConn) {
	t.Helper()
	b := startBackend(t, h)
	s := startSidecar(t, options{})
	s.use(b)
	return s, b, dial(t, s.address)
}

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// quiet checks that nothing is left of the calls.
func (s *sidecar) quiet() {
	s.t.Helper()
	eventually(s.t, "no calls in flight", func() bool {
		if s.engine.Stats().InFlight != 0 {
			return false
		}
		for _, p := range s.router.Peers() {
			if p.InFlight != 0 {
				return false
			}
		}
		for _, p := range s.engine.Stats().Peers {
			if p.Streams != 0 || p.Waiting != 0 {
				return false
			}
		}
		return true
	})
}

// leakCheck fails the test if goroutines of the engine or of grpc-go outlive it. Call it first: it looks last.
func leakCheck(t testing.TB) {
	t.Helper()
	before := goroutines()
	t.Cleanup(func() {
		deadline := time.Now().Add(patience)
		for {
			var left []string
			for id, g := range goroutines() {
				if _, ok := before[id]; !ok {
					left = append(left, g)
				}
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines left:\n%s", len(left), strings.Join(left, "\n\n"))
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

func goroutines() map[string]string {
	buf := make([]byte, 8<<20)
	buf = buf[:runtime.Stack(buf, true)]
	m := make(map[string]string)
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "google.golang.org/grpc") || strings.Contains(g, "flyproxy/pkg/grpcengine.") {
			id, _, _ := strings.Cut(g, " [")
			m[id] = g
		}
	}
	return m
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var insecureCreds = grpc.WithTransportCredentials(insecure.NewCredentials())

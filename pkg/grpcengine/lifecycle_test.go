package grpcengine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

func TestNewNeedsRouter(t *testing.T) {
	if _, err := grpcengine.New(grpcengine.Config{}); err == nil {
		t.Error("no error")
	}
}

func TestServeOnSeveralListeners(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, echo)
	router, err := routing.New(routing.Config{Service: "app", Policy: routing.RoundRobin})
	must(t, err)
	e, err := grpcengine.New(grpcengine.Config{Router: router})
	must(t, err)
	s := &sidecar{t: t, engine: e, router: router}
	s.use(b)
	l4, l6 := listen(t, "127.0.0.1:0"), listen(t, "[::1]:0")
	served := make(chan error)
	go func() { served <- e.Serve(l4, l6) }()
	for _, l := range []string{l4.Addr().String(), l6.Addr().String()} {
		_, err := unary(testContext(t), dial(t, l), "x")
		must(t, err)
	}
	must(t, e.Close())
	must(t, e.Close())
	must(t, <-served)
}

func TestServeFailsWhenOneListenerDoes(t *testing.T) {
	leakCheck(t)
	router, err := routing.New(routing.Config{Service: "app", Policy: routing.RoundRobin})
	must(t, err)
	e, err := grpcengine.New(grpcengine.Config{Router: router})
	must(t, err)
	defer e.Close()
	bad := listen(t, "127.0.0.1:0")
	bad.Close()
	if err := e.Serve(listen(t, "127.0.0.1:0"), bad); err == nil {
		t.Error("no error")
	}
}

// The engine answers its own services; everything else, Health included, is the peers'.
func TestOwnServiceOnSamePort(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, func(_ *backend, s grpc.ServerStream) error {
		return status.Error(codes.DataLoss, "the peer's")
	})
	s := startSidecar(t, options{register: func(r grpc.ServiceRegistrar) {
		healthpb.RegisterHealthServer(r, health.NewServer())
	}})
	s.use(b)
	cc, err := grpc.NewClient("passthrough:///"+s.address, insecureCreds)
	must(t, err)
	defer cc.Close()
	got, err := healthpb.NewHealthClient(cc).Check(testContext(t), &healthpb.HealthCheckRequest{})
	must(t, err)
	if got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("got %v", got)
	}
	if _, err := unary(testContext(t), dial(t, s.address), "x"); status.Code(err) != codes.DataLoss {
		t.Errorf("another service: %v", err)
	}
}

// A method that one of the engine's own services does not have is no peer's business.
func TestUnknownMethodOfOwnServiceReachesNoPeer(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, echo)
	s := startSidecar(t, options{register: func(r grpc.ServiceRegistrar) {
		healthpb.RegisterHealthServer(r, health.NewServer())
	}})
	s.use(b)
	cc := dial(t, s.address)
	for method, want := range map[string]codes.Code{
		"/grpc.health.v1.Health/Nope": codes.Unimplemented, "/grpc.health.v1/Nope": codes.OK, "/grpc.health.v1.Health.More/Check": codes.OK,
	} {
		in, out := message("x"), message(nil)
		if err := cc.Invoke(testContext(t), method, &in, &out); status.Code(err) != want {
			t.Errorf("%s: got %v, want %v", method, err, want)
		}
	}
	if n := b.calls.Load(); n != 2 {
		t.Errorf("the peer had %d calls, want 2", n)
	}
}

func TestDrainLetsCallsEnd(t *testing.T) {
	leakCheck(t)
	release := make(chan struct{})
	s, _, cc := pair(t, hold(release))
	st, err := cc.NewStream(testContext(t), bidi, method)
	must(t, err)
	_, err = st.Header()
	must(t, err)
	drained := make(chan error)
	go func() { drained <- s.engine.Drain(testContext(t)) }()
	eventually(t, "no new connections", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := unary(ctx, dial(t, s.address), "x")
		return status.Code(err) == codes.Unavailable
	})
	close(release)
	m := message("x")
	must(t, st.SendMsg(&m))
	must(t, st.RecvMsg(&m))
	must(t, st.CloseSend())
	must(t, <-drained)
}

func TestDrainIsBounded(t *testing.T) {
	leakCheck(t)
	s, _, cc := pair(t, hold(nil))
	st, err := cc.NewStream(testContext(t), bidi, method)
	must(t, err)
	_, err = st.Header()
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.engine.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := st.RecvMsg(new(message)); status.Code(err) != codes.Unavailable {
		t.Errorf("the call that was cut: %v", err)
	}
	s.quiet()
}

// A client that PINGs every few milliseconds is a nuisance to servers on the network, not to one on the same Machine.
func TestFrequentPingsAreNotPunished(t *testing.T) {
	leakCheck(t)
	s, _, _ := pair(t, echo)
	nc := dialRaw(t, s.address)
	for i := range 200 {
		must(t, nc.f.WritePing(false, [8]byte{byte(i)}))
		for {
			f, err := nc.f.ReadFrame()
			must(t, err)
			if g, ok := f.(*http2.GoAwayFrame); ok {
				t.Fatalf("GOAWAY after %d PINGs: %v", i, g)
			}
			if p, ok := f.(*http2.PingFrame); ok && p.IsAck() && p.Data[0] == byte(i) {
				break
			}
		}
	}
}

package registrar_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// app is a real gRPC server under watch.
type app struct {
	*grpc.Server
	address string
}

// startApp serves on address until the test's end. register adds services before it serves.
func startApp(t *testing.T, address string, register func(*grpc.Server), opts ...grpc.ServerOption) *app {
	t.Helper()
	a := &app{Server: grpc.NewServer(opts...)}
	if register != nil {
		register(a.Server)
	}
	a.serve(t, address)
	return a
}

func (a *app) serve(t *testing.T, address string) {
	t.Helper()
	l := listen(t, address)
	a.address = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Serve(l)
	}()
	t.Cleanup(func() {
		a.Stop()
		<-done
	})
}

// listen tolerates that a listener of the step before is only just closed.
func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		l, err := net.Listen("tcp", address)
		if err == nil {
			return l
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// startHealthy is an app with grpc-go's own health service, and reflection.
func startHealthy(t *testing.T, address string) (*app, *health.Server) {
	t.Helper()
	h := health.NewServer()
	a := startApp(t, address, func(s *grpc.Server) {
		healthpb.RegisterHealthServer(s, h)
		reflection.Register(s)
	})
	return a, h
}

// checkOnly has no Watch. Its Check hangs and fails as many times as set, and answers else.
type checkOnly struct {
	healthpb.UnimplementedHealthServer
	hangs    atomic.Int32 // how many of the next ones hang
	code     atomic.Uint32
	failures atomic.Int32 // how many of the next ones fail, with code
	status   atomic.Int32
	checks   atomic.Int64
}

func (c *checkOnly) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	c.checks.Add(1)
	if c.hangs.Add(-1) >= 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if c.failures.Add(-1) >= 0 {
		return nil, status.Error(codes.Code(c.code.Load()), "as the test says")
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_ServingStatus(c.status.Load())}, nil
}

func startCheckOnly(t *testing.T) (*app, *checkOnly) {
	t.Helper()
	c := &checkOnly{}
	c.status.Store(int32(healthpb.HealthCheckResponse_SERVING))
	return startApp(t, "127.0.0.1:0", func(s *grpc.Server) { healthpb.RegisterHealthServer(s, c) }), c
}

// patience is how long a test waits for what must come. It is long because machines that run tests are often busy, so that no test
// fails for a slow one; what may not wait for the next poll is tested with a poll that comes later than this.
const patience = 30 * time.Second

// neverPolled is an interval of which no test sees the end.
const neverPolled = 2 * patience

// await waits until cond holds, and gives how long that took.
func await(t *testing.T, what string, cond func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

// checkLeaks fails the test if goroutines of this package or of its gRPC clients are left at its end. Call it before what it checks.
func checkLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			left := leaked()
			if left == "" {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("goroutines left:\n%s", left)
				return
			}
		}
	})
}

func leaked() string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for _, g := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(g, "testing.tRunner") { // a test itself
			continue
		}
		for _, ours := range []string{"flyproxy/pkg/registrar.", "transport.NewHTTP2Client", "grpcsync.NewCallbackSerializer"} {
			if strings.Contains(g, ours) {
				left = append(left, g)
				break
			}
		}
	}
	return strings.Join(left, "\n\n")
}

// hangingHealth has a Watch that works and a Check that hangs when told to.
type hangingHealth struct {
	*health.Server
	hang   atomic.Bool
	checks atomic.Int64
}

func (h *hangingHealth) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.checks.Add(1)
	if h.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.Server.Check(ctx, r)
}

// rude accepts connections and closes them, as a TLS server does with plaintext.
type rude struct {
	net.Listener
	accepted atomic.Int64
}

func startRude(t *testing.T, address string) *rude {
	t.Helper()
	r := &rude{Listener: listen(t, address)}
	done := make(chan struct{})
	go r.serve(done)
	t.Cleanup(func() {
		r.Close()
		<-done
	})
	return r
}

func (r *rude) serve(done chan<- struct{}) {
	defer close(done)
	for {
		c, err := r.Accept()
		if err != nil {
			return
		}
		r.accepted.Add(1)
		io.WriteString(c, "no\r\n")
		c.Close()
	}
}

// connections counts those that a gRPC server took.
type connections struct{ begun atomic.Int64 }

func (*connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*connections) HandleRPC(context.Context, stats.RPCStats)                         {}
func (*connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c *connections) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnBegin); ok {
		c.begun.Add(1)
	}
}

// battle is a service without methods, for its name.
var battle = grpc.ServiceDesc{ServiceName: "battle.v1.Battle", HandlerType: (*any)(nil)}

func startBattle(t *testing.T) *app {
	t.Helper()
	return startApp(t, "127.0.0.1:0", func(s *grpc.Server) {
		s.RegisterService(&battle, struct{}{})
		healthpb.RegisterHealthServer(s, health.NewServer())
		reflection.Register(s)
	})
}

// startBattleV1Alpha is a server that knows only the older name of reflection.
func startBattleV1Alpha(t *testing.T) *app {
	t.Helper()
	return startApp(t, "127.0.0.1:0", func(s *grpc.Server) {
		s.RegisterService(&battle, struct{}{})
		v1 := reflection.NewServerV1(reflection.ServerOptions{Services: s})
		desc := reflectionpb.ServerReflection_ServiceDesc
		desc.ServiceName = "grpc.reflection.v1alpha.ServerReflection"
		s.RegisterService(&desc, v1)
	})
}

// cutter is a way to an app whose connections can be cut while it goes on accepting.
type cutter struct {
	net.Listener
	app  string
	open atomic.Int64 // counts the connections
	mu   sync.Mutex   // guards last
	last []net.Conn
}

func startCutter(t *testing.T, app string) *cutter {
	t.Helper()
	c := &cutter{Listener: listen(t, "127.0.0.1:0"), app: app}
	done := make(chan struct{})
	go c.serve(done)
	t.Cleanup(func() {
		c.Close()
		<-done
		c.cut()
	})
	return c
}

func (c *cutter) serve(done chan<- struct{}) {
	defer close(done)
	for {
		in, err := c.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.app)
		if err != nil {
			in.Close()
			return
		}
		c.mu.Lock()
		c.last = []net.Conn{in, out}
		c.mu.Unlock()
		c.open.Add(1)
		go io.Copy(in, out)
		go io.Copy(out, in)
	}
}

// cut resets the newest connection.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.last {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

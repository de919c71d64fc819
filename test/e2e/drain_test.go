package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/flyproxy/flyproxy/pkg/demo"
	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// chat opens a stream through s: say exchanges a message each way, hangUp ends it in good order.
func chat(t *testing.T, ctx context.Context, s *sidecar) (say func(name string), hangUp func()) {
	t.Helper()
	stream, err := pb.NewGreeterClient(s.dial(t)).Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	say = func(name string) {
		t.Helper()
		if err := stream.Send(&pb.HelloRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
		if r, err := stream.Recv(); err != nil || r.GetGreeting() != "Hello, "+name+"!" {
			t.Fatalf("%v %v", r, err)
		}
	}
	hangUp = func() {
		t.Helper()
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Fatalf("the stream ends with %v", err)
		}
	}
	return say, hangUp
}

// A deploy: SIGTERM takes the app out of the registry at once, lets an open stream end, and exits with 0.
func TestDrain(t *testing.T) { eachEngine(t, drain) }

func drain(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	env := "REDIS_URL=redis://" + redis.Addr()
	_, port0 := startApp(t, "m0", "ams")
	_, port1 := startApp(t, "m1", "ams")
	s0, s1 := startSidecar(t, "m0", "ams", port0, engine, env, "FLYPROXY_DRAIN_TIMEOUT=5m"), startSidecar(t, "m1", "ams", port1, engine, env)
	sees(t, 2, s0, s1)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	say, hangUp := chat(t, ctx, s0)
	say("before")
	s0.signal(syscall.SIGTERM)
	took := eventually(t, "the other sidecar no longer sees it", func() bool { return s1.serving() == 1 })
	t.Logf("gone for the other sidecar %v after SIGTERM", took.Round(time.Millisecond))
	readySays(t, s0, http.StatusServiceUnavailable, true, "draining")
	say("while draining")
	hangUp()
	if code := s0.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) { eachEngine(t, secondSignalEndsAtOnce) }

func secondSignalEndsAtOnce(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	_, port := startApp(t, "m0", "ams")
	s := startSidecar(t, "m0", "ams", port, engine, "REDIS_URL=redis://"+redis.Addr(), "FLYPROXY_DRAIN_TIMEOUT=5m")
	sees(t, 1, s)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	say, _ := chat(t, ctx, s)
	say("before")
	s.signal(syscall.SIGINT)
	readySays(t, s, http.StatusServiceUnavailable, true, "draining")
	s.signal(syscall.SIGTERM)
	s.exit(patience) // the open stream would have kept it for five minutes
}

// While an app still answers a stream that came in through its sidecar, it may need calls of its own to do so: they succeed until the
// stream has ended, on new connections too.
func TestDrainingAppMayStillCall(t *testing.T) { eachEngine(t, drainingAppMayStillCall) }

func drainingAppMayStillCall(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	env := "REDIS_URL=redis://" + redis.Addr()
	_, port0 := startApp(t, "m0", "ams")
	_, port1 := startApp(t, "m1", "ams")
	// The app listens at 127.0.0.1 only, so what comes to it passes the sidecar.
	s0 := startSidecar(t, "m0", "ams", port0, engine, env, "FLYPROXY_REGISTRATION_ADDRESS=127.0.0.2:{port}", "FLYPROXY_DRAIN_TIMEOUT=5m")
	s1 := startSidecar(t, "m1", "ams", port1, engine, env)
	sees(t, 2, s0, s1)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	say, hangUp := chat(t, metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", "m0"), s1)
	say("before")
	others, own := startLoad(t, 5*time.Millisecond, s1), startLoad(t, 5*time.Millisecond, s0)
	more := func(l *load, what string) {
		t.Helper()
		begun := l.calls.Load()
		eventually(t, "a hundred calls more "+what, func() bool { return l.calls.Load() >= begun+100 })
	}
	more(others, "by the other app")
	more(own, "by the app")

	s0.signal(syscall.SIGTERM)
	took := eventually(t, "the other sidecar no longer sees it", func() bool { return s1.serving() == 1 })
	t.Logf("gone for the other sidecar %v after SIGTERM", took.Round(time.Millisecond))
	readySays(t, s0, http.StatusServiceUnavailable, true, "draining")
	more(own, "by the draining app")
	if reply, err := hello(t, s0); err != nil || reply.GetInstance() != "m1" {
		t.Errorf("a call on a new connection: %v %v", reply, err)
	}
	say("while draining")
	t.Logf("the draining app: %s", own.stop())
	hangUp()
	ended := time.Now()
	if code := s0.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("ended %v after its last stream", time.Since(ended).Round(time.Millisecond))
	more(others, "by the other app")
	t.Logf("the other app: %s", others.stop())
}

// A deploy of the whole fleet, one Machine after the other, while another one calls it all the time: no call fails. The apps of some
// are reached directly, those of others through their sidecars.
func TestRollingRestartUnderLoad(t *testing.T) { eachEngine(t, rollingRestart) }

func rollingRestart(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	env := "REDIS_URL=redis://" + redis.Addr()
	machine := func(i int) (*demo.App, *sidecar) {
		id := fmt.Sprintf("m%d", i)
		app, port := startApp(t, id, "ams")
		address := "127.0.0.1:{port}"
		if i%2 == 1 { // where the app does not listen
			address = "127.0.0.2:{port}"
		}
		return app, startSidecar(t, id, "ams", port, engine, env, "FLYPROXY_REGISTRATION_ADDRESS="+address)
	}
	const machines = 4
	var apps [machines]*demo.App
	var all [machines]*sidecar
	for i := range machines {
		apps[i], all[i] = machine(i)
	}
	caller := startSidecar(t, "caller", "ams", freePort(t), engine, env, "FLYPROXY_REGISTRATION_ENABLED=false")
	sees(t, machines, caller)
	calls := startLoad(t, 2*time.Millisecond, caller, caller, caller)
	for i := range machines {
		begun := calls.calls.Load()
		all[i].signal(syscall.SIGTERM)
		if code := all[i].exit(patience); code != 0 {
			t.Errorf("SIGTERM: exit code %d", code)
		}
		apps[i].Drain()
		sees(t, machines-1, caller)
		apps[i], all[i] = machine(i)
		sees(t, machines, caller)
		eventually(t, "a hundred calls more", func() bool { return calls.calls.Load() > begun+100 })
	}
	t.Log(calls.stop())
}

// A sidecar that is replaced in place, as by a process supervisor, fails none of its app's calls: those that it has taken end, and the
// others wait, as their client says that they may, for the next process.
func TestReplacedUnderLoad(t *testing.T) { eachEngine(t, replacedUnderLoad) }

func replacedUnderLoad(t *testing.T, engine string) {
	_, port := startApp(t, "other", "ams")
	list := fmt.Sprintf(`FLYPROXY_REGISTRY_STATIC=[{service: battle, id: other, address: "127.0.0.1:%d", region: ams}]`, port)
	s := startSidecar(t, "m0", "ams", freePort(t), engine, list)
	at := s.port
	sees(t, 1, s)
	conns := make(map[string]*grpc.ClientConn)
	for i := range 4 {
		cc, err := grpc.NewClient(fmt.Sprintf("localhost:%d", at), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}, MinConnectTimeout: patience,
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cc.Close() })
		conns[fmt.Sprint("client ", i)] = cc
	}
	calls := startLoadOn(t, time.Millisecond, conns)
	for range 3 {
		begun := calls.calls.Load()
		eventually(t, "hundreds of calls", func() bool { return calls.calls.Load() > begun+300 })
		s.signal(syscall.SIGTERM)
		if code := s.exit(patience); code != 0 {
			t.Errorf("SIGTERM: exit code %d", code)
		}
		s = startSidecar(t, "m0", "ams", freePort(t), engine, list, fmt.Sprintf("FLYPROXY_LISTEN=localhost:%d", at))
		sees(t, 1, s)
	}
	t.Log(calls.stop())
}

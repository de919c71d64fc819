package e2e_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

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
func TestDrain(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	env := "REDIS_URL=redis://" + redis.Addr()
	_, port0 := startApp(t, "m0", "ams")
	_, port1 := startApp(t, "m1", "ams")
	s0, s1 := startSidecar(t, "m0", "ams", port0, env, "FLYPROXY_DRAIN_TIMEOUT=5m"), startSidecar(t, "m1", "ams", port1, env)
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

func TestSecondSignalEndsAtOnce(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	_, port := startApp(t, "m0", "ams")
	s := startSidecar(t, "m0", "ams", port, "REDIS_URL=redis://"+redis.Addr(), "FLYPROXY_DRAIN_TIMEOUT=5m")
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
func TestDrainingAppMayStillCall(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	env := "REDIS_URL=redis://" + redis.Addr()
	_, port0 := startApp(t, "m0", "ams")
	_, port1 := startApp(t, "m1", "ams")
	// The app listens at 127.0.0.1 only, so what comes to it passes the sidecar.
	s0 := startSidecar(t, "m0", "ams", port0, env, "FLYPROXY_REGISTRATION_ADDRESS=127.0.0.2:{port}", "FLYPROXY_DRAIN_TIMEOUT=5m")
	s1 := startSidecar(t, "m1", "ams", port1, env)
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

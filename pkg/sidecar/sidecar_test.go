package sidecar_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/demo"
	"github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
)

func load(t *testing.T, env ...string) *config.Config {
	t.Helper()
	return loadAlone(t, append([]string{"FLYPROXY_SERVICE=battle"}, env...)...)
}

// loadAlone is load without a service. Of files it reads those of tests.
func loadAlone(t *testing.T, env ...string) *config.Config {
	t.Helper()
	cfg, err := config.Load(config.Options{
		Environ: append([]string{
			"FLYPROXY_INSTANCE_ID=m0", "FLYPROXY_REGION=ams", "FLYPROXY_LISTEN=127.0.0.1:0",
			"FLYPROXY_ADMIN_LISTEN=127.0.0.1:0", "FLYPROXY_REGISTRATION_INTERVAL=200ms", "FLYPROXY_REGISTRATION_LEASE=600ms",
		}, env...),
		ReadFile: func(name string) ([]byte, error) {
			if strings.HasPrefix(name, os.TempDir()) {
				return os.ReadFile(name)
			}
			return nil, fs.ErrNotExist
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// logs collects log lines.
type logs struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// run makes and runs a sidecar; stop ends it, and may be called before the test's end.
func run(t *testing.T, cfg *config.Config) (s *sidecar.Sidecar, log *logs, stop func()) {
	t.Helper()
	log = &logs{}
	s, err := sidecar.New(cfg, sidecar.Options{
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run does not end")
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	t.Cleanup(stop)
	return s, log, stop
}

func serveApp(t *testing.T, id string) (app *demo.App, port string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	app = demo.NewApp(id, "ams")
	ended := make(chan error, 1)
	go func() { ended <- app.Serve(lis) }()
	t.Cleanup(func() { app.Stop(); <-ended })
	_, port, _ = net.SplitHostPort(lis.Addr().String())
	return app, port
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}

func connect(t *testing.T, s *sidecar.Sidecar) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(s.Addresses()[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func TestTwoAppsOfTwoServicesOnOneMachine(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	_, one := serveApp(t, "app-one")
	_, two := serveApp(t, "app-two")
	cfg := load(t, "REDIS_URL=redis://"+redis.Addr(),
		fmt.Sprintf(`FLYPROXY_APPS=[{"name":"one","address":"127.0.0.1:%s"},{"name":"two","address":"127.0.0.1:%s","service":"chat"}]`, one, two))
	s, _, stop := run(t, cfg)
	await(t, "both apps are known", func() bool { return s.Known("battle") == 1 && s.Known("chat") == 1 })
	client := greeterv1.NewGreeterClient(connect(t, s))
	for service, want := range map[string]string{"battle": "app-one", "chat": "app-two"} {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		reply, err := client.Hello(metadata.AppendToOutgoingContext(ctx, "flyproxy-service", service), &greeterv1.HelloRequest{})
		cancel()
		if err != nil || reply.GetInstance() != want {
			t.Errorf("service %s: %v %v, want %s", service, reply, err, want)
		}
	}
	// One beat serves both: the two leases are renewed together.
	st := s.Status(t.Context())
	if len(st.Self.Apps) != 2 || st.Counts.Known != 2 || !st.Instances[0].Self || !st.Instances[1].Self {
		t.Errorf("status: %+v", st)
	}
	stop()
	if n := redis.Text("HLEN", "flyproxy:v1:{default}:instances"); n != "0" {
		t.Errorf("%s records are left after the end", n)
	}
}

func TestTwoAppsOfOneServiceHaveTheirOwnIDs(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	_, one := serveApp(t, "app-one")
	_, two := serveApp(t, "app-two")
	s, _, _ := run(t, load(t, "REDIS_URL=redis://"+redis.Addr(),
		fmt.Sprintf(`FLYPROXY_APPS=[{"name":"one","address":"127.0.0.1:%s"},{"name":"two","address":"127.0.0.1:%s"}]`, one, two)))
	await(t, "both apps are known", func() bool { return s.Known("battle") == 2 })
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cc := connect(t, s)
	list, err := flyproxyv1.NewDiscoveryClient(cc).ListInstances(ctx, &flyproxyv1.ListInstancesRequest{})
	if err != nil || len(list.GetInstances()) != 2 {
		t.Fatalf("%v %v", list, err)
	}
	// The three things that an in-app discovery gives: the best one, all of them, and one by its id.
	for _, in := range list.GetInstances() {
		reply, err := greeterv1.NewGreeterClient(cc).Hello(
			metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", in.GetId()), &greeterv1.HelloRequest{})
		if want := "app-" + strings.TrimPrefix(in.GetId(), "m0/"); err != nil || reply.GetInstance() != want {
			t.Errorf("pinned to %s: %v %v", in.GetId(), reply, err)
		}
	}
}

func TestStaticRegistry(t *testing.T) {
	_, port := serveApp(t, "listed")
	s, log, _ := run(t, load(t, "GRPC_PORT="+port,
		fmt.Sprintf(`FLYPROXY_REGISTRY_STATIC=[{"service":"battle","id":"listed","address":"127.0.0.1:%s","region":"fra"}]`, port)))
	await(t, "the list is known", func() bool { return s.Known("battle") == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := greeterv1.NewGreeterClient(connect(t, s)).Hello(ctx, &greeterv1.HelloRequest{})
	if err != nil || reply.GetInstance() != "listed" {
		t.Errorf("%v %v", reply, err)
	}
	if r := s.Ready(); !r.Ready || r.Degraded {
		t.Errorf("ready: %+v", r)
	}
	// Nobody would see a registration of its own, so none is claimed.
	if st := s.Status(ctx); len(st.Self.Apps) != 0 || !strings.Contains(log.String(), "the app is not registered") {
		t.Errorf("status of its own app: %+v", st.Self.Apps)
	}
}

func TestLastViewOutlivesTheRegistry(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	_, port := serveApp(t, "app")
	s, _, _ := run(t, load(t, "REDIS_URL=redis://"+redis.Addr(), "GRPC_PORT="+port, "FLYPROXY_REGISTRY_REDIS_TIMEOUT=200ms"))
	await(t, "the app is known", func() bool { return s.Known("battle") == 1 })
	redis.Kill()
	await(t, "the view is stale and still ready", func() bool {
		r := s.Ready()
		return r.Ready && r.Degraded && strings.Contains(strings.Join(r.Reasons, " "), "calls go on with the last one")
	})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := greeterv1.NewGreeterClient(connect(t, s)).Hello(ctx, &greeterv1.HelloRequest{}); err != nil {
		t.Errorf("a call without Redis: %v", err)
	}
	res, err := http.Get("http://" + s.AdminAddress() + "/cluster/status")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var st admin.Status
	if err := json.NewDecoder(res.Body).Decode(&st); err != nil || st.LoadsError == "" || len(st.Instances) != 1 {
		t.Errorf("status without Redis: %+v %v", st, err)
	}
}

// The reason must be there although no app says it too.
func TestReadySaysWhyTheRegistryWasNeverReached(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{Password: "right"})
	s, _, _ := run(t, load(t, "REDIS_URL=redis://:wrong@"+redis.Addr(), "FLYPROXY_REGISTRATION_ENABLED=false"))
	await(t, "the reason says that the credentials were refused", func() bool {
		return strings.Contains(strings.Join(s.Ready().Reasons, " "), "credentials")
	})
}

// While a call of the app is open, the app may make further ones.
func TestDrainTakesTheAppsOwnCallsUntilTheyEnd(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	_, port := serveApp(t, "app")
	s, _, stop := run(t, load(t, "REDIS_URL=redis://"+redis.Addr(), "GRPC_PORT="+port, "FLYPROXY_DRAIN_TIMEOUT=20s"))
	await(t, "the app is known", func() bool { return s.Known("battle") == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	client := greeterv1.NewGreeterClient(connect(t, s))
	// Routing knows nobody once the app is deregistered, so this call is to another one.
	other, _ := serveOther(t, redis.Addr())
	await(t, "the other is known", func() bool { return s.Known("battle") == 2 })
	stream, err := client.Chat(metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", other))
	if err != nil {
		t.Fatal(err)
	}
	say := func() {
		t.Helper()
		if err := stream.Send(&greeterv1.HelloRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	say()
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	await(t, "it is draining and deregistered", func() bool { return !s.Ready().Ready && s.Known("battle") == 1 })
	for range 20 {
		if _, err := client.Hello(ctx, &greeterv1.HelloRequest{}); err != nil {
			t.Fatalf("a call while draining: %v", err)
		}
	}
	say()
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-ctx.Done():
		t.Error("it does not end when the last call has ended")
	}
}

// serveOther runs another instance of the service, with a sidecar of its own.
func serveOther(t *testing.T, redis string) (id string, s *sidecar.Sidecar) {
	t.Helper()
	_, port := serveApp(t, "other")
	s, _, _ = run(t, load(t, "REDIS_URL=redis://"+redis, "GRPC_PORT="+port, "FLYPROXY_INSTANCE_ID=other"))
	return "other", s
}

func TestNewGivesBackWhatItBound(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	_, err = sidecar.New(load(t, "REDIS_URL=redis://127.0.0.1:1", "FLYPROXY_LISTEN="+address,
		"FLYPROXY_ADMIN_LISTEN="+taken.Addr().String()), sidecar.Options{Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "admin.listen") || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("with the admin port taken: %v", err)
	}
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the first listener was not given back: %v", err)
	}
	_ = again.Close()
}

// The first process hosts the embedded Redis. When it ends another takes over, with nothing in it, and everybody registers again.
func TestEmbeddedRedisIsTakenOver(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	redis := free.Addr().String()
	_ = free.Close()
	member := func(id string) (*sidecar.Sidecar, func()) {
		_, port := serveApp(t, id)
		s, _, stop := run(t, load(t, "FLYPROXY_REGISTRY_STORE=embedded", "FLYPROXY_REGISTRY_EMBEDDED_ADDRESS="+redis,
			"FLYPROXY_INSTANCE_ID="+id, "GRPC_PORT="+port))
		return s, stop
	}
	_, endHost := member("host")
	a, _ := member("a")
	b, _ := member("b")
	await(t, "all three see each other", func() bool { return a.Known("battle") == 3 && b.Known("battle") == 3 })
	endHost()
	await(t, "the other two are registered in the new one", func() bool {
		for _, s := range []*sidecar.Sidecar{a, b} {
			if r := s.Ready(); s.Known("battle") != 2 || !r.Ready || r.Degraded {
				return false
			}
		}
		return true
	})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := greeterv1.NewGreeterClient(connect(t, a)).Hello(ctx, &greeterv1.HelloRequest{})
	if err != nil || reply.GetInstance() != "b" {
		t.Errorf("a call after the takeover: %v %v", reply, err)
	}
}

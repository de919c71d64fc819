package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flyproxy/flyproxy/pkg/demo"
	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

type fixture struct {
	router *routing.Router
	engine *relay.Engine
	addr   string
}

func start(t testing.TB) *fixture {
	t.Helper()
	r, err := routing.New(routing.Config{Service: "app", Region: "ams", Policy: routing.RoundRobin, PreferRegion: true,
		SelfMode: routing.SelfLast, Headers: routing.Headers{Service: "flyproxy-service", ForceInstance: "fly-force-instance-id"}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := relay.New(relay.Config{Router: r})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- e.Serve(lis) }()
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &fixture{r, e, lis.Addr().String()}
}

func app(t testing.TB, id string) registry.Instance {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := demo.NewApp(id, "ams")
	done := make(chan error, 1)
	go func() { done <- a.Serve(lis) }()
	t.Cleanup(func() { a.Stop(); <-done })
	return registry.Instance{Service: "app", ID: id, Region: "ams", Incarnation: "1", Schema: 1, Address: lis.Addr().String(), State: registry.Serving}
}

func (f *fixture) update(in ...registry.Instance) {
	v := &registry.View{Source: registry.FromRegistry}
	for _, i := range in {
		v.Entries = append(v.Entries, registry.Entry{Instance: i})
	}
	f.router.Update(v)
}

func client(t testing.TB, addr string) pb.GreeterClient {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return pb.NewGreeterClient(cc)
}

func TestUnaryAndStreams(t *testing.T) {
	f := start(t)
	f.update(app(t, "a"), app(t, "b"))
	c := client(t, f.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got := make(map[string]int)
	for i := range 100 {
		r, err := c.Hello(ctx, &pb.HelloRequest{Name: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		if r.GetGreeting() != fmt.Sprintf("Hello, %d!", i) {
			t.Fatal(r)
		}
		got[r.GetInstance()]++
	}
	if got["a"] != 50 || got["b"] != 50 {
		t.Error(got)
	}
	stream, err := c.Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	big := string(bytes.Repeat([]byte("x"), 1<<20))
	for range 20 {
		if err := stream.Send(&pb.HelloRequest{Name: big}); err != nil {
			t.Fatal(err)
		}
		r, err := stream.Recv()
		if err != nil || len(r.GetGreeting()) != len(big)+8 {
			t.Fatal(len(r.GetGreeting()), err)
		}
	}
	_ = stream.CloseSend()
}

func TestConcurrentCalls(t *testing.T) {
	f := start(t)
	f.update(app(t, "a"), app(t, "b"))
	c := client(t, f.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 100 {
				if _, err := c.Hello(ctx, &pb.HelloRequest{Name: "x"}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := f.engine.Stats().InFlight; n != 0 {
		t.Errorf("%d in flight", n)
	}
}

func BenchmarkUnary(b *testing.B) {
	f := start(b)
	f.update(app(b, "a"))
	c := client(b, f.addr)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := c.Hello(context.Background(), &pb.HelloRequest{Name: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkDirect(b *testing.B) {
	in := app(b, "a")
	c := client(b, in.Address)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := c.Hello(context.Background(), &pb.HelloRequest{Name: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

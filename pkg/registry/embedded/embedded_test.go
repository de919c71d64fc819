package embedded_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/embedded"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
)

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func start(t *testing.T, address string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context(), embedded.Config{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func poll(t *testing.T, cond func() bool, what string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func hosts(servers ...*embedded.Server) (n int) {
	for _, s := range servers {
		if s.Hosting() {
			n++
		}
	}
	return n
}

func TestOneHostsAndAnotherTakesOver(t *testing.T) {
	address := freeAddress(t)
	servers := []*embedded.Server{start(t, address), start(t, address), start(t, address), start(t, address)}
	if !servers[0].Hosting() || hosts(servers...) != 1 {
		t.Fatal("not the first alone hosts")
	}
	store, err := redis.New(redis.Config{Addresses: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	changes := make(chan registry.Change, 100)
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); _ = store.Watch(ctx, func(c registry.Change) { changes <- c }) }()
	defer func() { stop(); <-watched }()

	inst := registry.Instance{Service: "echo", ID: "m1", Incarnation: "one", Address: "127.0.0.1:50051", State: registry.Serving}
	owned := registry.Beat{Lease: time.Minute, Owned: []registry.Owned{{Key: inst.Key(), Incarnation: "one"}}}
	for len(servers) > 0 {
		if c := <-changes; c.Kind != registry.Reset {
			t.Fatalf("the watch said %+v, want a Reset", c)
		}
		// Nobody knows the instance on a server that is new, so it registers again.
		var reply registry.BeatReply
		poll(t, func() bool { reply, err = store.Beat(t.Context(), owned); return err == nil }, "no beat succeeds")
		if reply.Standings[0] != registry.Unknown {
			t.Errorf("on a new server the standing is %v", reply.Standings)
		}
		if _, err := store.Register(t.Context(), inst, time.Minute, false); err != nil {
			t.Fatal(err)
		}
		if c := <-changes; c.Kind != registry.Put {
			t.Errorf("the watch said %+v, want the registration", c)
		}
		poll(t, func() bool { return hosts(servers...) == 1 }, "not one hosts")
		for i, s := range servers {
			if s.Hosting() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if s.Hosting() {
					t.Error("a closed server hosts")
				}
				servers = append(servers[:i], servers[i+1:]...)
				break
			}
		}
	}
	if _, err := store.Snapshot(t.Context()); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("after the last one closed: %v", err)
	}
}

func TestManyStartTogether(t *testing.T) {
	address := freeAddress(t)
	started := make(chan *embedded.Server)
	const many = 8
	for range many {
		go func() {
			s, err := embedded.Start(t.Context(), embedded.Config{Address: address})
			if err != nil {
				t.Error(err)
			}
			started <- s
		}()
	}
	var servers []*embedded.Server
	for range many {
		if s := <-started; s != nil {
			servers = append(servers, s)
		}
	}
	if n := hosts(servers...); n != 1 {
		t.Errorf("%d of %d host", n, many)
	}
	for _, s := range servers {
		_ = s.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFlushAllDoesNotMakeItForeign: a server that was emptied is still known as ours.
func TestFlushAllDoesNotMakeItForeign(t *testing.T) {
	address := freeAddress(t)
	start(t, address)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reply := make([]byte, 16)
	if _, err := conn.Write([]byte("*1\r\n$8\r\nFLUSHALL\r\n")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(reply); err != nil || string(reply[:n]) != "+OK\r\n" {
		t.Fatalf("FLUSHALL gave %q, %v", reply[:n], err)
	}
	if start(t, address).Hosting() {
		t.Error("two host")
	}
}

func TestSomethingElseOnThePort(t *testing.T) {
	other, err := miniredis.Run() // a Redis, but nobody's of ours
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	for name, address := range map[string]string{"another Redis": other.Addr(), "what does not answer": mute.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := embedded.Start(context.Background(), embedded.Config{Address: address})
			if err == nil || !strings.Contains(err.Error(), "registry.embedded.address "+address) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	t.Run("ended context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := embedded.Start(ctx, embedded.Config{Address: other.Addr()}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestOnlyLoopback(t *testing.T) {
	for _, address := range []string{"0.0.0.0:16379", "[::]:16379", "192.0.2.1:16379", "localhost:16379", ":16379", "127.0.0.1", "127.0.0.1:0"} {
		if s, err := embedded.Start(t.Context(), embedded.Config{Address: address}); err == nil {
			t.Errorf("%s was taken", address)
			_ = s.Close()
		} else if !strings.Contains(err.Error(), "registry.embedded.address") {
			t.Errorf("%s: the error does not name the key: %v", address, err)
		}
	}
}

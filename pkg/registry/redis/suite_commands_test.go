package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
)

func testLoads(t *testing.T, b backend) {
	f := b.open(t)
	var asked []registry.Key
	owned := []registry.Owned{}
	for i := range registry.MaxAsk + 8 {
		inst := instance("echo", fmt.Sprintf("m%02d", i), "one")
		f.register(inst, true)
		asked = append(asked, inst.Key())
		owned = append(owned, registry.Owned{Key: inst.Key(), Incarnation: "one",
			Load: registry.Load{InFlight: i, CPU: 0.5, P99: 12.25, Memory: 0.25, Connections: 3, ErrorRate: 0.125}})
	}
	version := f.snapshot().Version
	reply, err := f.Beat(t.Context(), registry.Beat{Lease: lease, Owned: owned, Ask: asked})
	if err != nil {
		t.Fatal(err)
	}
	if reply.Version != version {
		t.Error("a changing load changed the version")
	}
	if len(reply.Loads) != registry.MaxAsk {
		t.Fatalf("%d loads for %d that were asked for, want %d", len(reply.Loads), len(asked), registry.MaxAsk)
	}
	for i, r := range reply.Loads {
		if r.Key != asked[i] || r.Load != owned[i].Load || r.Age < 0 || r.Age > 10*time.Second {
			t.Errorf("load %d is %+v", i, r)
		}
	}
	f.do("HSET", f.key("load"), "echo/m00", fmt.Sprintf("%d|{}", f.now().Add(-time.Minute).UnixMilli()))
	f.do("HSET", f.key("load"), "echo/m01", "no load at all")
	f.do("HSET", f.key("load"), "echo/m02", "5|[")
	reply, err = f.Beat(t.Context(), registry.Beat{Lease: lease, Ask: append([]registry.Key{{Service: "no", ID: "body"}}, asked[:3]...)})
	if err != nil || len(reply.Loads) != 1 || reply.Loads[0].Age < time.Minute || reply.Loads[0].Age > 2*time.Minute {
		t.Errorf("got %+v %v, want one load a minute old", reply.Loads, err)
	}
	all, err := f.Loads(t.Context())
	if want := len(asked) - 2; err != nil || len(all) != want {
		t.Errorf("the table has %d loads that can be read, want %d: %v", len(all), want, err)
	}
}

func testLoadsCoalesced(t *testing.T, b backend) {
	var mu sync.Mutex
	reads := 0
	f := b.open(t, func(c *redis.Config) {
		c.Observe = func(op string, _ time.Duration, _ error) {
			mu.Lock()
			defer mu.Unlock()
			if op == "loads" {
				reads++
			}
		}
	})
	f.register(instance("echo", "m1", "one"), true)
	f.beat(instance("echo", "m1", "one"))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got, err := f.Loads(t.Context()); err != nil || len(got) != 1 {
				t.Errorf("got %v %v", got, err)
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if reads > 2 {
		t.Errorf("%d readings for 50 calls that came together", reads)
	}
}

func testNoScript(t *testing.T, b backend) {
	f := b.open(t)
	inst := instance("echo", "m1", "one")
	for _, step := range []func(){
		func() { f.register(inst, true) },
		func() { f.beat(inst) },
		func() { f.snapshot() },
		func() { _, _ = f.Loads(t.Context()) },
		func() {
			if err := f.Deregister(t.Context(), inst.Key(), "one"); err != nil {
				t.Error(err)
			}
		},
	} {
		f.do("SCRIPT", "FLUSH")
		step()
	}
}

func testCancelled(t *testing.T, b backend) {
	f := b.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Snapshot(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("snapshot: %v", err)
	}
	if _, err := f.Loads(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("loads: %v", err)
	}
	if _, err := f.Loads(t.Context()); err != nil {
		t.Errorf("one caller's end is another's error: %v", err)
	}
	if err := f.Watch(ctx, func(registry.Change) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("watch: %v", err)
	}
}

// calls is how often each command was called since the server's start, by clients and by scripts.
func (f *fixture) calls() map[string]int {
	f.t.Helper()
	text, _ := f.do("INFO", "commandstats").(string)
	out := map[string]int{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if ok {
			n, _, _ := strings.Cut(rest, ",")
			calls, _ := strconv.Atoi(n)
			out[name] += calls
		}
	}
	return out
}

// testOneCommand counts calls in the server's own statistics, which count what scripts call too.
func testOneCommand(t *testing.T, b backend) {
	f := b.open(t)
	inst := instance("echo", "m1", "one")
	f.register(inst, true)
	f.watch()
	f.beat(inst) // connections and scripts are there now
	before := f.calls()
	const beats = 20
	tried := f.tries.Load()
	for range beats {
		f.beat(inst)
	}
	after := f.calls()
	// On a busy machine a beat may be given up and tried again, which Redis may or may not have seen.
	if got := after["evalsha"] - before["evalsha"]; got < beats || int64(got) > f.tries.Load()-tried {
		t.Errorf("%d evalsha for %d beats in %d tries", got, beats, f.tries.Load()-tried)
	}
	// What a script calls, and the test's own INFO; replication and the cluster bus do not appear among these.
	inside := map[string]bool{"evalsha": true, "time": true, "type": true, "hmget": true, "zadd": true, "hset": true, "get": true,
		"set": true, "hlen": true, "zcard": true, "zrangebyscore": true, "info": true, "replconf": true, "ping": true, "publish": true,
		"cluster|slots": true}
	for name, n := range after {
		if n > before[name] && !inside[name] {
			t.Errorf("%d calls of %s", n-before[name], name)
		}
	}
}

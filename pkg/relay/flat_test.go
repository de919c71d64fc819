package relay_test

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
	"github.com/flyproxy/flyproxy/test/conformance/leak"
)

const (
	// flatCalls and flatChurns are how much a run does; flatWarmUp is the part of it that comes before the first look, so that
	// buffers and maps have their size.
	flatCalls, flatChurns = 100_000, 10_000
	flatWarmUp            = 10
	// flatLive and flatInUse are how much more the heap may hold afterwards: live objects, and the spans they lie in. A call that
	// left 11 octets, or a connection that left 105, would exceed the first. It is more than nothing because of buffers whose size
	// follows the largest burst, and the second because spans are given back late where objects that live on share them.
	flatLive, flatInUse = 1 << 20, 4 << 20
)

// flatBed is an engine with two peers, of which one may be replaced, and listeners on TCP and on a unix socket.
type flatBed struct {
	t         testing.TB
	router    *routing.Router
	engine    *relay.Engine
	tcp, unix string
	peers     []*flatPeer
	version   int
}

func newFlatBed(t testing.TB, limits ...relay.Limits) *flatBed {
	t.Helper()
	leak.Check(t, "flyproxy/pkg/relay.")
	router, err := routing.New(routing.Config{Service: "app", Policy: routing.RoundRobin})
	if err != nil {
		t.Fatal(err)
	}
	// Peers that are gone are forgotten after IdleTimeout.
	cfg := relay.Config{Router: router, ConnectTimeout: flatPatience, IdleTimeout: time.Second}
	if len(limits) > 0 {
		cfg.Limits = limits[0]
	}
	engine, err := relay.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &flatBed{t: t, router: router, engine: engine, unix: filepath.Join(t.TempDir(), "relay.sock")}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.tcp = tcp.Addr().String()
	unix, err := net.Listen("unix", b.unix)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- engine.Serve(tcp, unix) }()
	t.Cleanup(func() {
		if err := errors.Join(engine.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	b.peers = []*flatPeer{startFlatPeer(t), startFlatPeer(t)}
	b.update()
	return b
}

func (b *flatBed) update() {
	b.version++
	v := &registry.View{Source: registry.FromRegistry, Version: uint64(b.version)}
	for i, p := range b.peers {
		id := fmt.Sprint("peer", i)
		if i == len(b.peers)-1 {
			id = fmt.Sprint("peer", b.version)
		}
		v.Entries = append(v.Entries, p.entry("app", id))
	}
	b.router.Update(v)
}

// replace has one of the peers leave and another one come.
func (b *flatBed) replace() {
	old := b.peers[1]
	b.peers[1] = startFlatPeer(b.t)
	b.update()
	old.leave(b.t)
}

// flatSize is what must not grow.
type flatSize struct {
	goroutines  int
	live, inUse uint64
}

func flatSizeNow() flatSize {
	runtime.GC()
	runtime.GC() // the first one moves what pools hold to where the second one frees it
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return flatSize{goroutines: runtime.NumGoroutine(), live: m.HeapAlloc, inUse: m.HeapInuse}
}

// await waits until f holds.
func (b *flatBed) await(what string, f func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(flatPatience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("still not so: %s (Stats has %+v)", what, b.engine.Stats())
		}
	}
}

// connected tells whether both peers have a connection, and nobody else: one that has just come gets one at the next tick, and one that
// has left may still have one.
func (b *flatBed) connected(st engine.Stats) bool {
	n := 0
	for _, c := range st.Peers {
		for _, p := range b.peers {
			if c.Address == p.lis.Addr().String() {
				n += c.Ready
			}
		}
	}
	return n == len(b.peers) && st.Connections() == n
}

// settledSize is the size once nothing is in flight and the connections are only those of clients and two peers.
func (b *flatBed) settledSize(clients int) flatSize {
	b.t.Helper()
	for deadline := time.Now().Add(flatPatience); ; time.Sleep(5 * time.Millisecond) {
		st := b.engine.Stats()
		if st.InFlight == 0 && st.Clients == clients && b.connected(st) && st.BufferedBytes == 0 && st.ReplayBytes == 0 {
			return flatSizeNow()
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("it does not come to rest: %+v", st)
		}
	}
}

// mustBeFlat compares with what was before. Goroutines may take a moment to end.
func (b *flatBed) mustBeFlat(before flatSize, clients int) {
	b.t.Helper()
	after := b.settledSize(clients)
	for deadline := time.Now().Add(flatPatience); after.goroutines > before.goroutines && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		after = b.settledSize(clients)
	}
	b.t.Logf("goroutines %d → %d, live objects %d → %d KiB, heap in use %d → %d KiB", before.goroutines, after.goroutines,
		before.live>>10, after.live>>10, before.inUse>>10, after.inUse>>10)
	if after.goroutines > before.goroutines {
		b.t.Errorf("%d goroutines, %d after the warm-up", after.goroutines, before.goroutines)
	}
	if after.live > before.live+flatLive {
		b.t.Errorf("objects take %d octets, %d after the warm-up", after.live, before.live)
	}
	if after.inUse > before.inUse+flatInUse {
		b.t.Errorf("the heap in use is %d octets, %d after the warm-up", after.inUse, before.inUse)
	}
}

func TestFlatOverCalls(t *testing.T) {
	b := newFlatBed(t)
	const connections, atOnce = 4, 16
	clients := make([]*flatClient, connections)
	for i := range clients {
		c, err := dialFlat("tcp", b.tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer c.nc.Close()
		clients[i] = c
	}
	run := func(calls int) {
		var all sync.WaitGroup
		for _, c := range clients {
			all.Go(func() {
				for range calls / connections / atOnce {
					if err := c.calls(atOnce); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	run(flatCalls / flatWarmUp)
	before := b.settledSize(connections)
	run(flatCalls)
	b.mustBeFlat(before, connections)
}

func TestFlatOverConnections(t *testing.T) {
	b := newFlatBed(t)
	const atOnce, perPeer = 8, 500
	run := func(connections int) {
		for range connections / perPeer {
			var left atomic.Int64
			left.Store(perPeer)
			var all sync.WaitGroup
			for range atOnce {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						if err := b.visit(); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.replace()
		}
	}
	run(flatChurns / flatWarmUp)
	before := b.settledSize(0)
	run(flatChurns)
	b.mustBeFlat(before, 0)
}

// visit is one client that comes, makes a call and goes.
func (b *flatBed) visit() error {
	c, err := dialFlat("unix", b.unix)
	if err != nil {
		return err
	}
	defer c.nc.Close()
	return c.calls(1)
}

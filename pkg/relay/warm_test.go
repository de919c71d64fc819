package relay_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// counted is a peer that counts its connections: those that were ever made, and those that are open, of which most is the highest.
type counted struct {
	*enginetest.RawPeer
	made, open, most, calls atomic.Int64
}

func startCounted(t *testing.T, settings ...http2.Setting) *counted {
	t.Helper()
	p := &counted{}
	p.RawPeer = enginetest.StartRawPeer(t, settings, func(c *enginetest.RawConn) {
		p.made.Add(1)
		if n := p.open.Add(1); n > p.most.Load() {
			p.most.Store(n)
		}
		defer p.open.Add(-1)
		for h := c.Next(); h != nil; h = c.Next() {
			p.calls.Add(1)
			c.Answer(h.StreamID, "x")
		}
	})
	return p
}

// However many calls a peer has at once, it has one connection, as long as its stream limit allows.
func TestOneConnectionPerPeer(t *testing.T) {
	enginetest.CheckLeaks(t)
	const calls = 100
	var conns atomic.Int64
	peer := enginetest.StartRawPeer(t, nil, func(c *enginetest.RawConn) {
		conns.Add(1)
		var held []uint32
		for h := c.Next(); h != nil; h = c.Next() {
			if held = append(held, h.StreamID); len(held) < calls {
				continue
			}
			for _, id := range held {
				c.Answer(id, "x")
			}
		}
	})
	s := with(relay.Config{}).Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("only", peer.Address))
	cc := enginetest.Dial(t, s.Address)
	var all sync.WaitGroup
	for range calls { // all at once, the first of them before there is a connection
		all.Go(func() {
			if _, err := enginetest.Unary(enginetest.Context(t), cc, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	s.Quiet()
}

// Once a service was called, the peers of its nearest tier are connected ahead of the calls, and stay so when nobody calls. One that
// joins later is connected before its first call, too.
func TestConnectionsComeBeforeCalls(t *testing.T) {
	enginetest.CheckLeaks(t)
	const idle = 100 * time.Millisecond
	a, b, far := startCounted(t), startCounted(t), startCounted(t)
	s := with(relay.Config{}).Start(t, enginetest.Setup{Options: enginetest.Options{IdleTimeout: idle}})
	remote := enginetest.Instance("far", far.Address)
	remote.Region = "syd"
	s.Set(enginetest.Instance("a", a.Address), remote)
	cc := enginetest.Dial(t, s.Address)
	_, err := enginetest.Unary(at(enginetest.Context(t), "far"), cc, "x") // it opens a connection to an unlikely peer
	enginetest.Must(t, err)
	enginetest.Eventually(t, "the likely peer is connected, the unlikely one no more", func() bool {
		return a.open.Load() == 1 && far.open.Load() == 0
	})
	s.Set(enginetest.Instance("a", a.Address), enginetest.Instance("b", b.Address), remote)
	enginetest.Eventually(t, "the one that joined is connected", func() bool { return b.open.Load() == 1 })
	enginetest.Eventually(t, "it takes calls", func() bool {
		ready := 0
		for _, p := range s.Engine.Stats().Peers {
			ready += p.Ready
		}
		return ready == 2
	})
	since := time.Now()
	enginetest.Eventually(t, "the idle timeout has passed several times", func() bool { return time.Since(since) > 5*idle })
	for _, id := range []string{"a", "b"} {
		_, err := enginetest.Unary(at(enginetest.Context(t), id), cc, "x")
		enginetest.Must(t, err)
	}
	if a.made.Load() != 1 || b.made.Load() != 1 || far.made.Load() != 1 {
		t.Errorf("connections made: %d, %d and %d, want 1 each", a.made.Load(), b.made.Load(), far.made.Load())
	}
	if a.calls.Load() != 1 || b.calls.Load() != 1 {
		t.Errorf("calls: %d and %d", a.calls.Load(), b.calls.Load())
	}
	// A peer that the registry no longer shows is left in peace, and its connection closed.
	s.Set(enginetest.Instance("a", a.Address), remote)
	enginetest.Eventually(t, "the removed peer's connection is closed", func() bool { return b.open.Load() == 0 })
}

// With more peers than are kept connected, calls open connections to others, which are closed when they were idle.
func TestWarmConnectionsAreBounded(t *testing.T) {
	enginetest.CheckLeaks(t)
	const peers, warm = 200, 64
	p := startCounted(t)
	s := with(relay.Config{}).Start(t, enginetest.Setup{Options: enginetest.Options{IdleTimeout: 200 * time.Millisecond}})
	var in []registry.Instance
	for i := range peers {
		in = append(in, enginetest.Instance(fmt.Sprintf("p%03d", i), p.Address))
	}
	s.Set(in...)
	cc := enginetest.Dial(t, s.Address)
	_, err := enginetest.Unary(enginetest.Context(t), cc, "x")
	enginetest.Must(t, err)
	enginetest.Eventually(t, "the likely ones are connected", func() bool { return p.open.Load() >= warm })
	if n := p.most.Load(); n > warm+1 {
		t.Errorf("%d connections after one call, want %d, and that of the call", n, warm)
	}
	for range peers { // by turns: each peer gets one
		_, err := enginetest.Unary(enginetest.Context(t), cc, "x")
		enginetest.Must(t, err)
	}
	if n := p.most.Load(); n <= warm || n > peers {
		t.Errorf("%d connections at the most when every peer was called", n)
	}
	enginetest.Eventually(t, "the unlikely ones are closed", func() bool { return p.open.Load() == warm })
	made := p.made.Load()
	t.Logf("%d connections were made, %d were open at the most, %d are left", made, p.most.Load(), p.open.Load())
	s.Quiet()
	enginetest.Eventually(t, "Stats have as many", func() bool { return s.Engine.Stats().Connections() == warm })
}

// What the kernel measures on connections is in the Stats, and orders the regions in place of distance.
func TestRoundTripTimesOrderRegions(t *testing.T) {
	enginetest.CheckLeaks(t)
	far := startCounted(t)
	s := with(relay.Config{}).Start(t, enginetest.Setup{Routing: func(c *routing.Config) {
		c.Distance = func(region string) (float64, bool) { return map[string]float64{"ams": 400, "syd": 16000}[region], true }
	}})
	near, remote := enginetest.Instance("near", startCloser(t).address), enginetest.Instance("far", far.Address)
	near.Region, remote.Region = "ams", "syd"
	likely := func(id string) bool {
		for _, p := range s.Router.Likely(10) {
			if p.Key.ID == id {
				return true
			}
		}
		return false
	}
	s.Set(near, remote)
	_, err := enginetest.Unary(at(enginetest.Context(t), "far"), enginetest.Dial(t, s.Address), "x")
	enginetest.Must(t, err)
	if likely("far") {
		t.Fatal("the far region comes first before it was measured")
	}
	var rtt time.Duration
	enginetest.Eventually(t, "the round-trip time is known", func() bool {
		for _, p := range s.Engine.Stats().Peers {
			if p.Key.ID == "far" {
				rtt = p.RTT
			}
		}
		return rtt > 0
	})
	if rtt > time.Second {
		t.Errorf("%v over loopback", rtt)
	}
	enginetest.Eventually(t, "the region that is nearer than it seemed comes first", func() bool {
		s.Set(near, remote) // measurements count from the next view on
		return likely("far")
	})
	t.Log(rtt)
}

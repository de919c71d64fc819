package enginetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// stats are tests of the engine's own account.
func stats() []one {
	return []one{
		{"WhileCallsAreOpen", testStatsWhileOpen},
		{"Clients", testStatsClients},
		{"UnderLoad", testStatsUnderLoad},
	}
}

// peerOf finds a peer's entry.
func peerOf(st engine.Stats, id string) (p engine.PeerConnections) {
	for _, p := range st.Peers {
		if p.Key.ID == id {
			return p
		}
	}
	return p
}

func testStatsWhileOpen(t *testing.T, e Subject) {
	b := StartBackend(t, Hold(nil), grpc.MaxConcurrentStreams(2))
	s := e.Start(t, most(1))
	in := Instance("i", b.Address)
	s.Set(in)
	if st := s.Engine.Stats(); st.InFlight != 0 || st.Connections() != 0 {
		t.Errorf("at first: %+v", st)
	}
	cc := Dial(t, s.Address)
	ctx, cancel := context.WithCancel(Context(t))
	defer cancel()
	Begin(t, ctx, cc)
	Begin(t, ctx, cc)
	Open(t, ctx, cc)
	s.AwaitWaiting(1)
	st := s.Engine.Stats()
	p := peerOf(st, "i")
	if st.InFlight != 3 || len(st.Peers) != 1 || p.Key != (registry.Key{Service: "app", ID: "i"}) || p.Region != "fra" ||
		p.Address != b.Address || p.Ready != 1 || p.Connecting+p.Idle+p.Failed+p.Silent != 0 || p.Streams != 2 || p.Waiting != 1 {
		t.Errorf("two calls are open and one waits: %+v", st)
	}
	cancel()
	s.Quiet()
	if st := s.Engine.Stats(); st.Connections() != 1 {
		t.Errorf("in the end: %+v", st)
	}
}

func testStatsClients(t *testing.T, e Subject) {
	s := e.Start(t, Setup{})
	want := func(n int) {
		t.Helper()
		Until(t, func() string {
			if got := s.Engine.Stats().Clients; got != n {
				return fmt.Sprintf("%d clients (Stats has %d)", n, got)
			}
			return ""
		})
	}
	want(0)
	a, b := DialRaw(t, s.Address), DialRaw(t, s.Address)
	want(2)
	a.nc.Close()
	want(1)
	b.nc.Close()
	want(0)
}

// Stats are read while everything changes. They need not be of one moment, but no count may be impossible.
func testStatsUnderLoad(t *testing.T, e Subject) {
	const callers, connections = 64, 2
	a, b := StartBackend(t, Echo, grpc.MaxConcurrentStreams(4)), StartBackend(t, Echo, grpc.MaxConcurrentStreams(4))
	s := e.Start(t, most(connections))
	s.Use(a, b)
	cc := Dial(t, s.Address)
	stop := load(t, cc, callers)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for ended := 0; ended < 3000 && !t.Failed(); _, ended = s.Told.counts() {
		st := s.Engine.Stats()
		if st.InFlight < 0 || st.InFlight > callers || st.BufferedBytes < 0 || st.ReplayBytes < 0 {
			t.Errorf("impossible: %+v", st)
		}
		for _, p := range st.Peers {
			if p.Ready < 0 || p.Connecting < 0 || p.Idle < 0 || p.Failed < 0 || p.Silent < 0 || p.Streams < 0 || p.Waiting < 0 ||
				p.Ready > connections || p.Streams+p.Waiting > 2*callers {
				t.Errorf("impossible: %+v", p)
			}
		}
		<-pace.C
	}
	stop()
	s.Quiet()
}

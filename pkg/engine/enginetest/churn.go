package enginetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// churn are tests of peers that come and go under load: no call may fail.
func churn() []one {
	return []one{
		{"RollingRestart", testRollingRestart},
		{"PeersComeAndGo", testPeersComeAndGo},
		{"IncarnationChanges", testIncarnationChanges},
	}
}

// load calls as fast as it can from n goroutines until stop is called, which gives the number of calls and fails on any error.
func load(t testing.TB, cc *grpc.ClientConn, n int) (stop func() int64) {
	var calls, failed atomic.Int64
	var first atomic.Value
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				calls.Add(1)
				ctx, cancel := context.WithTimeout(context.Background(), Patience)
				if got, err := Unary(ctx, cc, "x"); err != nil || got != "x" {
					failed.Add(1)
					first.CompareAndSwap(nil, fmt.Sprint(got, err))
				}
				cancel()
			}
		})
	}
	end := sync.OnceFunc(func() {
		close(quit)
		wg.Wait()
	})
	t.Cleanup(end)
	return func() int64 {
		end()
		if f := failed.Load(); f > 0 {
			t.Errorf("%d of %d calls failed, the first with %v", f, calls.Load(), first.Load())
		}
		return calls.Load()
	}
}

// Peers end in good order (GOAWAY, then their last calls), and the registry does not say a word beforehand.
func testRollingRestart(t *testing.T, e Subject) {
	s := e.Start(t, Setup{})
	backends := []*Backend{StartBackend(t, Echo), StartBackend(t, Echo), StartBackend(t, Echo)}
	s.Use(backends...)
	stop := load(t, Dial(t, s.Address), 16)
	for i := range backends {
		served := backends[i].Calls.Load()
		Eventually(t, "the peer is busy", func() bool { return backends[i].Calls.Load() > served+50 })
		backends[i].Server.GracefulStop()
		backends[i] = StartBackend(t, Echo)
		s.Use(backends...)
	}
	for _, b := range backends {
		Eventually(t, "every new peer has calls", func() bool { return b.Calls.Load() > 0 })
	}
	t.Logf("%d calls", stop())
	s.Quiet()
}

// Views change under the load of a thousand callers; a removed peer's calls end in peace.
func testPeersComeAndGo(t *testing.T, e Subject) {
	s := e.Start(t, Setup{})
	all := []*Backend{StartBackend(t, Echo), StartBackend(t, Echo), StartBackend(t, Echo), StartBackend(t, Echo)}
	cc := Dial(t, s.Address)
	release := make(chan struct{})
	slow := StartBackend(t, Hold(release))
	s.Set(Instance("slow", slow.Address))
	ctx, cancel := context.WithTimeout(context.Background(), 6*Patience)
	defer cancel()
	st := Begin(t, ctx, cc)

	s.Use(all...) // takes slow away
	stop := load(t, cc, 1000)
	for i := range 20 {
		from := i % len(all)
		s.Set(Instance(fmt.Sprint("g", i), all[from].Address), Instance(fmt.Sprint("h", i), all[(from+1)%len(all)].Address))
		Until(t, func() string {
			peers := s.Engine.Stats().Peers
			for _, p := range peers {
				if p.Key.ID == fmt.Sprint("g", i) && p.Ready > 0 {
					return ""
				}
			}
			return fmt.Sprintf("the new peers have connections (step %d, Stats has %+v)", i, peers)
		})
	}
	t.Logf("%d calls", stop())
	close(release)
	finish(t, st)
	s.Quiet()
	Until(t, func() string {
		if peers := s.Engine.Stats().Peers; len(peers) != 2 {
			return fmt.Sprintf("only the 2 peers that are known have connections (Stats has %+v)", peers)
		}
		return ""
	})
}

// An app restarts: another process at the same address, so another incarnation. The old one's calls end in peace, and new calls
// get connections of their own.
func testIncarnationChanges(t *testing.T, e Subject) {
	release := make(chan struct{})
	b := StartBackend(t, func(b *Backend, s grpc.ServerStream) error {
		if md, _ := metadata.FromIncomingContext(s.Context()); md["hold"] != nil {
			return Hold(release)(b, s)
		}
		return Echo(b, s)
	})
	s := e.Start(t, Setup{})
	in := Instance("only", b.Address)
	s.Set(in)
	cc := Dial(t, s.Address)
	st := Begin(t, metadata.AppendToOutgoingContext(Context(t), "hold", ""), cc)
	stop := load(t, cc, 16)
	for i := range 20 {
		served := b.Calls.Load()
		in.Incarnation = fmt.Sprint("next", i)
		s.Set(in)
		Eventually(t, "calls go on", func() bool { return b.Calls.Load() > served+20 })
	}
	t.Logf("%d calls", stop())
	close(release)
	finish(t, st)
	s.Quiet()
	Eventually(t, "only the last incarnation has a connection", func() bool { return s.Engine.Stats().Connections() == 1 })
}

package grpcengine_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

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
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				if got, err := unary(ctx, cc, "x"); err != nil || got != "x" {
					failed.Add(1)
					first.CompareAndSwap(nil, fmt.Sprint(got, err))
				}
				cancel()
			}
		})
	}
	return func() int64 {
		close(quit)
		wg.Wait()
		if f := failed.Load(); f > 0 {
			t.Errorf("%d of %d calls failed, the first with %v", f, calls.Load(), first.Load())
		}
		return calls.Load()
	}
}

func TestRollingRestartUnderLoad(t *testing.T) {
	leakCheck(t)
	s := startSidecar(t, options{})
	backends := []*backend{startBackend(t, echo), startBackend(t, echo), startBackend(t, echo)}
	s.use(backends...)
	stop := load(t, dial(t, s.address), 16)
	for i := range backends {
		served := backends[i].calls.Load()
		eventually(t, "the peer is busy", func() bool { return backends[i].calls.Load() > served+50 })
		backends[i].server.GracefulStop() // the registry has not said a word
		backends[i] = startBackend(t, echo)
		s.use(backends...)
	}
	for _, b := range backends {
		eventually(t, "every new peer has calls", func() bool { return b.calls.Load() > 0 })
	}
	t.Logf("%d calls", stop())
	s.quiet()
}

// Views change under load; a removed peer's calls end in peace.
func TestPeersComeAndGoUnderLoad(t *testing.T) {
	leakCheck(t)
	s := startSidecar(t, options{})
	all := []*backend{startBackend(t, echo), startBackend(t, echo), startBackend(t, echo), startBackend(t, echo)}
	s.use(all...)
	cc := dial(t, s.address)
	release := make(chan struct{})
	slow := startBackend(t, hold(release))
	s.set(instance("slow", slow.address))
	ctx, cancel := context.WithTimeout(context.Background(), 6*patience)
	defer cancel()
	st, err := cc.NewStream(ctx, bidi, method)
	must(t, err)
	_, err = st.Header()
	must(t, err)

	s.use(all...) // takes slow away
	stop := load(t, cc, 1000)
	for i := range 20 {
		from := i % len(all)
		s.set(instance(fmt.Sprint("g", i), all[from].address), instance(fmt.Sprint("h", i), all[(from+1)%len(all)].address))
		eventually(t, "the new peers have calls", func() bool {
			for _, p := range s.engine.Stats().Peers {
				if p.Key.ID == fmt.Sprint("g", i) && p.Ready > 0 {
					return true
				}
			}
			return false
		})
	}
	t.Logf("%d calls", stop())
	close(release)
	m := message("still there")
	must(t, st.SendMsg(&m))
	must(t, st.RecvMsg(&m))
	must(t, st.CloseSend())
	if err := st.RecvMsg(&m); err != io.EOF || string(m) != "still there" {
		t.Errorf("the call on the removed peer: %q, %v", m, err)
	}
	s.quiet()
	if n := len(s.engine.Stats().Peers); n != 2 {
		t.Errorf("%d peers have connections, want the 2 that are known", n)
	}
}

// An app restarts: another process at the same address, so another incarnation. The old one's calls end in peace, and new calls get
// connections of their own.
func TestIncarnationChangesUnderLoad(t *testing.T) {
	leakCheck(t)
	release := make(chan struct{})
	b := startBackend(t, func(b *backend, s grpc.ServerStream) error {
		if md, _ := metadata.FromIncomingContext(s.Context()); md["hold"] != nil {
			return hold(release)(b, s)
		}
		return echo(b, s)
	})
	s := startSidecar(t, options{})
	in := instance("only", b.address)
	s.set(in)
	cc := dial(t, s.address)
	st, err := cc.NewStream(metadata.AppendToOutgoingContext(testContext(t), "hold", ""), bidi, method)
	must(t, err)
	_, err = st.Header()
	must(t, err)
	stop := load(t, cc, 16)
	for i := range 20 {
		served := b.calls.Load()
		in.Incarnation = fmt.Sprint("next", i)
		s.set(in)
		eventually(t, "calls go on", func() bool { return b.calls.Load() > served+20 })
	}
	t.Logf("%d calls", stop())
	close(release)
	m := message("still there")
	must(t, st.SendMsg(&m))
	must(t, st.RecvMsg(&m))
	must(t, st.CloseSend())
	if err := st.RecvMsg(&m); err != io.EOF {
		t.Errorf("the call on the first incarnation: %v", err)
	}
	s.quiet()
	if n := s.engine.Stats().Connections(); n != 1 {
		t.Errorf("%d connections, want that of the last incarnation", n)
	}
}

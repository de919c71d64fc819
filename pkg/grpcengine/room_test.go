package grpcengine_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	"github.com/flyproxy/flyproxy/pkg/grpcengine"
)

func connections(n int) options {
	return options{engine: func(c *grpcengine.Config) { c.MaxConnectionsPerPeer = n }}
}

// begin opens a call that its peer holds.
func begin(t *testing.T, ctx context.Context, cc *grpc.ClientConn) grpc.ClientStream {
	t.Helper()
	st, err := cc.NewStream(ctx, bidi, method)
	must(t, err)
	_, err = st.Header()
	must(t, err)
	return st
}

// later makes a call and tells how it went.
func later(t *testing.T, cc *grpc.ClientConn) <-chan string {
	c := make(chan string, 1)
	ctx := testContext(t)
	go func() {
		got, err := unary(ctx, cc, "x")
		c <- fmt.Sprint(got, err)
	}()
	return c
}

func (s *sidecar) waiting() (n int) {
	for _, p := range s.engine.Stats().Peers {
		n += p.Waiting
	}
	return n
}

func TestFullPeerGetsAnotherConnection(t *testing.T) {
	leakCheck(t)
	release := make(chan struct{})
	b := startBackend(t, hold(release), grpc.MaxConcurrentStreams(1))
	s := startSidecar(t, connections(3))
	s.use(b)
	cc := dial(t, s.address)
	var calls []<-chan string
	for range 5 {
		calls = append(calls, later(t, cc))
	}
	eventually(t, "three calls on three connections, two waiting", func() bool {
		st := s.engine.Stats()
		return b.calls.Load() == 3 && st.Connections() == 3 && st.InFlight == 5 && st.Peers[0].Streams == 3 && st.Peers[0].Waiting == 2
	})
	close(release)
	for _, c := range calls {
		if got := receive(t, c); got != "x<nil>" {
			t.Error(got)
		}
	}
	if n := b.calls.Load(); n != 5 {
		t.Errorf("the peer had %d calls", n)
	}
	s.quiet()
}

// Whichever of two full connections gets room first, the waiting call gets it. It used to wait for one of them only.
func TestWaitingCallGetsTheFirstStreamThatEnds(t *testing.T) {
	for ends := range 2 {
		t.Run(fmt.Sprint(ends), func(t *testing.T) {
			leakCheck(t)
			b := startBackend(t, hold(nil), grpc.MaxConcurrentStreams(1))
			s := startSidecar(t, connections(2))
			s.use(b)
			cc := dial(t, s.address)
			var cancels []func()
			for range 2 {
				ctx, cancel := context.WithCancel(testContext(t))
				begin(t, ctx, cc)
				cancels = append(cancels, cancel)
			}
			third := make(chan struct{})
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			go func() {
				defer close(third)
				if st, err := cc.NewStream(ctx, bidi, method); err == nil {
					_, _ = st.Header()
				}
			}()
			eventually(t, "the third waits", func() bool { return s.waiting() == 1 })
			cancels[ends]()
			receive(t, third)
			if n := b.calls.Load(); n != 3 {
				t.Errorf("the peer had %d calls", n)
			}
			cancels[1-ends]()
			cancel()
			s.quiet()
		})
	}
}

// A call waits for room at a peer that the registry then removes.
func TestWaitingCallLeavesRemovedPeer(t *testing.T) {
	leakCheck(t)
	full, other := startBackend(t, hold(nil), grpc.MaxConcurrentStreams(1)), startBackend(t, echo)
	s := startSidecar(t, connections(1))
	s.set(instance("full", full.address))
	cc := dial(t, s.address)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	begin(t, ctx, cc)
	waits := later(t, cc)
	eventually(t, "a call waits", func() bool { return s.waiting() == 1 })
	s.set(instance("other", other.address))
	if got := receive(t, waits); got != "x<nil>" {
		t.Error(got)
	}
	cancel()
	s.quiet()
}

// A call waits for room while a new peer is registered: it need not wait any longer.
func TestWaitingCallGoesToNewPeer(t *testing.T) {
	leakCheck(t)
	full, other := startBackend(t, hold(nil), grpc.MaxConcurrentStreams(1)), startBackend(t, echo)
	s := startSidecar(t, connections(1))
	s.set(instance("full", full.address))
	cc := dial(t, s.address)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	begin(t, ctx, cc)
	waits := later(t, cc)
	eventually(t, "a call waits", func() bool { return s.waiting() == 1 })
	s.set(instance("full", full.address), instance("other", other.address))
	if got := receive(t, waits); got != "x<nil>" {
		t.Error(got)
	}
	cancel()
	s.quiet()
}

func TestWaitingCallCanBeCancelled(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, hold(nil), grpc.MaxConcurrentStreams(1))
	s := startSidecar(t, connections(1))
	s.use(b)
	cc := dial(t, s.address)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	begin(t, ctx, cc)
	waits, stop := context.WithCancel(testContext(t))
	_, err := cc.NewStream(waits, bidi, method)
	must(t, err)
	eventually(t, "a call waits", func() bool { return s.waiting() == 1 })
	stop()
	eventually(t, "none waits", func() bool { return s.waiting() == 0 })
	cancel()
	s.quiet()
}

// A peer that takes no calls for now, or is full, does not keep those that another can take.
func TestPeerWithoutRoomIsPassedOver(t *testing.T) {
	leakCheck(t)
	raw := startRawPeer(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}, answerAll("zero"))
	b := startBackend(t, echo)
	s := startSidecar(t, options{})
	s.set(instance("a", raw.address), instance("b", b.address))
	cc := dial(t, s.address)
	for range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		got, err := unary(ctx, cc, "x")
		cancel()
		if must(t, err); got != "x" {
			t.Errorf("got %q", got)
		}
	}
	s.quiet()
	if n := s.engine.Stats().Connections(); n != 2 {
		t.Errorf("%d connections, want one to each peer", n)
	}
}

// A call that a peer has refused is replayed by grpc-go, which then is the one that waits.
func TestReplayedCallWaitsForRoom(t *testing.T) {
	leakCheck(t)
	release := make(chan struct{})
	refusing := startRawPeer(t, nil, refuses)
	full := startBackend(t, hold(release), grpc.MaxConcurrentStreams(1))
	s := startSidecar(t, connections(1))
	s.set(instance("full", full.address))
	cc := dial(t, s.address)
	st := begin(t, testContext(t), cc)
	s.set(instance("full", full.address), instance("refusing", refusing.address))
	waits := later(t, cc)
	eventually(t, "the refused call waits at the full peer", func() bool { return s.waiting() == 1 })
	close(release)
	must(t, st.CloseSend())
	if got := receive(t, waits); got != "x<nil>" {
		t.Error(got)
	}
	for st.RecvMsg(new(message)) == nil {
	}
	s.quiet()
}

// A peer changes its stream limit at any time. grpc-go keeps to it and tells nobody.
func TestLaterStreamLimitIsSeen(t *testing.T) {
	leakCheck(t)
	lowered, raise, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	set := func(c *rawConn, limit uint32) {
		_ = c.f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: limit})
		for {
			f, err := c.f.ReadFrame()
			if err != nil {
				return
			}
			if sf, ok := f.(*http2.SettingsFrame); ok && sf.IsAck() {
				return
			}
		}
	}
	raw := startRawPeer(t, nil, func(c *rawConn) {
		h := c.next()
		if h == nil {
			return
		}
		set(c, 1)
		close(lowered)
		<-raise
		set(c, 2)
		second := c.next()
		<-release
		c.answer(h.StreamID, "first")
		if second != nil {
			c.answer(second.StreamID, "second")
		}
		for c.frame() != nil {
		}
	})
	s := startSidecar(t, connections(1))
	s.set(instance("only", raw.address))
	cc := dial(t, s.address)
	first := later(t, cc)
	receive(t, lowered)
	second := later(t, cc)
	eventually(t, "the second call waits", func() bool { return s.waiting() == 1 })
	close(raise)
	eventually(t, "both calls are with the peer", func() bool { return s.waiting() == 0 && s.engine.Stats().Peers[0].Streams == 2 })
	close(release)
	got := []string{receive(t, first), receive(t, second)}
	if slices.Sort(got); !slices.Equal(got, []string{"first<nil>", "second<nil>"}) {
		t.Errorf("got %q", got)
	}
	s.quiet()
}

// Each stream that ends wakes one waiting call and not all of them: the log says what that costs.
func TestManyWaitingCallsAreServedInTurn(t *testing.T) {
	leakCheck(t)
	const calls = 500
	var most, now atomic.Int64
	b := startBackend(t, func(b *backend, st grpc.ServerStream) error {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return echo(b, st)
	}, grpc.MaxConcurrentStreams(1))
	s := startSidecar(t, connections(2))
	s.use(b)
	cc := dial(t, s.address)
	_, err := unary(testContext(t), cc, "x")
	must(t, err)
	began, cpu := time.Now(), processorTime()
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if _, err := unary(testContext(t), cc, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d calls, %d at a time: %v, %v of processor time", calls, most.Load(), time.Since(began), processorTime()-cpu)
	if n := most.Load(); n > 2 {
		t.Errorf("the peer had %d calls at a time, and took 2", n)
	}
	s.quiet()
}

func processorTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

package grpcengine_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// hold answers each call when release is closed.
func hold(release <-chan struct{}) handler {
	return func(b *backend, s grpc.ServerStream) error {
		if err := s.SendHeader(nil); err != nil {
			return err
		}
		select {
		case <-release:
			return echo(b, s)
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

func TestNoInstances(t *testing.T) {
	leakCheck(t)
	s := startSidecar(t, options{})
	_, err := unary(testContext(t), dial(t, s.address), "x")
	want := "No gRPC instances available for service app: 0 known, 0 healthy, 0 in region fra"
	if st := status.Convert(err); st.Code() != codes.Unavailable || st.Message() != want {
		t.Errorf("got %v, want %s", st, want)
	}
}

func TestPeerKilledDuringCall(t *testing.T) {
	leakCheck(t)
	s, b, cc := pair(t, hold(nil))
	st, err := cc.NewStream(testContext(t), bidi, method)
	must(t, err)
	_, err = st.Header()
	must(t, err)
	began := time.Now()
	b.server.Stop()
	err = st.RecvMsg(new(message))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "app/i0") {
		t.Errorf("got %v, want UNAVAILABLE that names the instance", err)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("the client was told after %v", d)
	}
	s.quiet()
}

// After a peer was killed, every new call finds another, at once.
func TestNewCallsAvoidKilledPeer(t *testing.T) {
	leakCheck(t)
	a, b := startBackend(t, hold(nil)), startBackend(t, echo)
	s := startSidecar(t, options{})
	s.use(a, b)
	cc := dial(t, s.address)
	ctx := metadata.AppendToOutgoingContext(testContext(t), "fly-force-instance-id", "i0")
	st, err := cc.NewStream(ctx, bidi, method)
	must(t, err)
	_, err = st.Header()
	must(t, err)
	a.server.Stop()
	if err := st.RecvMsg(new(message)); status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v", err)
	}
	for range 100 {
		began := time.Now()
		_, err := unary(testContext(t), cc, "x")
		must(t, err)
		if d := time.Since(began); d > 500*time.Millisecond {
			t.Errorf("a call took %v", d)
		}
	}
	s.quiet()
}

// How long new calls still reach a peer whose process was killed: its connections are reset and its port refuses. That is aimed to be
// 100 ms at most; on a busy machine it may be more.
func TestKilledPeerIsAvoidedSoon(t *testing.T) {
	leakCheck(t)
	var mu sync.Mutex
	var open []net.Conn
	raw := startRawPeer(t, nil, func(c *rawConn) {
		mu.Lock()
		open = append(open, c.nc)
		mu.Unlock()
		for h := c.next(); h != nil; h = c.next() {
			time.Sleep(time.Millisecond) // so that it has calls when it is killed
			c.answer(h.StreamID, "x")
		}
	})
	b := startBackend(t, echo)
	r := &recorder{}
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.Observer = r }})
	s.set(instance("killed", raw.address), instance("live", b.address))
	cc := dial(t, s.address)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					_, _ = unary(ctx, cc, "x") // the recorder looks at the results
					cancel()
				}
			}
		})
	}
	eventually(t, "both peers are busy", func() bool { return r.calls("killed") > 50 && r.calls("live") > 50 })
	raw.l.Close()
	killed := time.Now()
	mu.Lock()
	for _, nc := range open {
		must(t, nc.(*net.TCPConn).SetLinger(0)) // so that closing resets
		nc.Close()
	}
	mu.Unlock()
	eventually(t, "a while has passed", func() bool { return time.Since(killed) > 1200*time.Millisecond })
	close(quit)
	wg.Wait()
	s.quiet()
	touched, failed := time.Duration(0), 0
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, info := range r.ended {
		if info.PeerID == "killed" || info.Code != codes.OK {
			touched = max(touched, r.at[i].Sub(killed))
		}
		if info.Code != codes.OK {
			failed++
		}
	}
	t.Logf("of %d calls %d failed; the last one that the killed peer had ended %v after it was killed", len(r.ended), failed, touched)
	if failed > 4 {
		t.Errorf("%d calls failed, want at most the 4 that the peer may have had", failed)
	}
	if touched > time.Second {
		t.Errorf("calls still went to the killed peer after %v", touched)
	}
}

func TestRefusingPeerIsUnseen(t *testing.T) {
	leakCheck(t)
	l := listen(t, "127.0.0.1:0")
	dead := instance("dead", l.Addr().String())
	l.Close()
	b := startBackend(t, echo)
	s := startSidecar(t, options{})
	s.set(dead, instance("live", b.address))
	cc := dial(t, s.address)
	for range 50 {
		_, err := unary(testContext(t), cc, "x")
		must(t, err)
	}
	ctx := metadata.AppendToOutgoingContext(testContext(t), "fly-force-instance-id", "dead")
	if _, err := unary(ctx, cc, "x"); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "did not take the call") {
		t.Errorf("the pinned call: %v", err)
	}
	s.quiet()
}

// A peer that accepts connections and says nothing costs a call the connect timeout, once; then it is backed off.
func TestSilentPeerIsUnseen(t *testing.T) {
	leakCheck(t)
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	b := startBackend(t, echo)
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.ConnectTimeout = 200 * time.Millisecond }})
	s.set(instance("silent", l.Addr().String()), instance("live", b.address))
	cc := dial(t, s.address)
	for range 20 {
		began := time.Now()
		_, err := unary(testContext(t), cc, "x")
		must(t, err)
		if d := time.Since(began); d > time.Second {
			t.Errorf("a call took %v", d)
		}
	}
	s.quiet()
}

func TestAllPeersSilentIsBounded(t *testing.T) {
	leakCheck(t)
	var in []registry.Instance
	for i := range 8 {
		l := listen(t, "127.0.0.1:0")
		defer l.Close()
		in = append(in, instance(fmt.Sprint(i), l.Addr().String()))
	}
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.ConnectTimeout = 100 * time.Millisecond }})
	s.set(in...)
	began := time.Now()
	_, err := unary(testContext(t), dial(t, s.address), "x")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("it took %v", d)
	}
	s.quiet()
}

func TestDeadlineHoldsWhileConnecting(t *testing.T) {
	leakCheck(t)
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.ConnectTimeout = time.Minute }})
	s.set(instance("silent", l.Addr().String()))
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := unary(ctx, dial(t, s.address), "x"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	s.quiet()
}

func TestPeerThatComesBackIsUsedAgain(t *testing.T) {
	leakCheck(t)
	l := listen(t, "127.0.0.1:0")
	address := l.Addr().String()
	a := startBackendAt(t, l, echo)
	s := startSidecar(t, options{})
	s.set(instance("only", address))
	cc := dial(t, s.address)
	_, err := unary(testContext(t), cc, "x")
	must(t, err)
	a.server.Stop()
	eventually(t, "the peer is known to be down", func() bool {
		_, err := unary(testContext(t), cc, "x")
		return status.Code(err) == codes.Unavailable
	})
	startBackendAt(t, listen(t, address), echo)
	eventually(t, "the peer is used again", func() bool {
		_, err := unary(testContext(t), cc, "x")
		return err == nil
	})
	for _, p := range s.router.Known() {
		if p.BackedOff() {
			t.Error("the peer is still backed off")
		}
	}
}

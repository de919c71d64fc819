package grpcengine_test

import (
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// recorder is an Observer.
type recorder struct {
	mu      sync.Mutex
	started int
	ended   []engine.CallInfo
	at      []time.Time // when each ended
}

func (r *recorder) CallStarted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started++
}

func (r *recorder) CallEnded(i engine.CallInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, i)
	r.at = append(r.at, time.Now())
}

// calls is how many calls a peer has had.
func (r *recorder) calls(peer string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.ended {
		if r.ended[i].PeerID == peer {
			n++
		}
	}
	return n
}

func TestObserver(t *testing.T) {
	leakCheck(t)
	r := &recorder{}
	b := startBackend(t, func(*backend, grpc.ServerStream) error { return status.Error(codes.Aborted, "") })
	l := listen(t, "127.0.0.1:0")
	l.Close()
	s := startSidecar(t, options{
		engine:  func(c *grpcengine.Config) { c.Observer = r },
		routing: func(c *routing.Config) { c.Policy = routing.RoundRobin },
	})
	cc := dial(t, s.address)
	_, _ = unary(testContext(t), cc, "x")
	s.set(instance("dead", l.Addr().String()), instance("live", b.address))
	for range 2 { // round robin: one of the two begins with the dead one
		_, _ = unary(testContext(t), cc, "x")
	}
	s.quiet()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started != 3 || len(r.ended) != 3 {
		t.Fatalf("%d started, %d ended", r.started, len(r.ended))
	}
	if i := r.ended[0]; i.Code != codes.Unavailable || i.Service != "app" || i.PeerID != "" || i.Method != method || i.Attempts != 0 {
		t.Errorf("the call without a peer: %+v", i)
	}
	attempts := 0
	for _, i := range r.ended[1:] {
		attempts += i.Attempts
		if i.Code != codes.Aborted || i.PeerID != "live" || i.PeerRegion != "fra" || i.Service != "app" || i.Latency <= 0 {
			t.Errorf("%+v", i)
		}
	}
	if attempts != 3 {
		t.Errorf("%d attempts, want 3", attempts)
	}
}

// A peer that could not be connected to did not have the call.
func TestObserverNamesOnlyPeersThatWereSentTheCall(t *testing.T) {
	leakCheck(t)
	r := &recorder{}
	l := listen(t, "127.0.0.1:0")
	l.Close()
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.Observer = r }})
	s.set(instance("dead", l.Addr().String()))
	if _, err := unary(testContext(t), dial(t, s.address), "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	s.quiet()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ended) != 1 {
		t.Fatalf("%d calls ended", len(r.ended))
	}
	if i := r.ended[0]; i.Service != "app" || i.PeerID != "" || i.PeerRegion != "" || i.Attempts != 1 {
		t.Errorf("%+v", i)
	}
}

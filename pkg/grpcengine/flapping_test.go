package grpcengine_test

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// flapping is a peer whose connections come up and go. It counts them, and the calls that it was sent.
type flapping struct {
	*rawPeer
	dials, calls atomic.Int64
}

func startFlapping(t *testing.T, how string) *flapping {
	f := &flapping{}
	f.rawPeer = startRawPeer(t, nil, func(c *rawConn) {
		f.dials.Add(1)
		switch how {
		case "GOAWAY after SETTINGS":
			_ = c.f.WriteGoAway(0, http2.ErrCodeNo, nil)
			for c.frame() != nil {
			}
		case "closes after HEADERS":
			if c.next() != nil {
				f.calls.Add(1)
			}
		}
	})
	return f
}

// A peer that accepts connections and drops them was dialled thousands of times a second. It is dialled ever less often, and calls go
// to the healthy one beside it.
func TestFlappingPeerIsDialledSeldomAndAvoided(t *testing.T) {
	for _, how := range []struct {
		name    string
		mayFail bool // a call whose headers were sent on a connection that then breaks may have been run
	}{
		{name: "GOAWAY after SETTINGS"}, {"closes after SETTINGS", true}, {"closes after HEADERS", true},
	} {
		t.Run(how.name, func(t *testing.T) {
			leakCheck(t)
			bad := startFlapping(t, how.name)
			b := startBackend(t, echo)
			s := startSidecar(t, options{})
			s.set(instance("a", bad.address), instance("b", b.address))
			cc := dial(t, s.address)
			failed := 0
			began := time.Now()
			for range 200 {
				if _, err := unary(testContext(t), cc, "x"); status.Code(err) == codes.Unavailable {
					failed++
				} else {
					must(t, err)
				}
				time.Sleep(time.Millisecond)
			}
			eventually(t, "a second has passed", func() bool { return time.Since(began) > time.Second })
			took := time.Since(began)
			t.Logf("%d of 200 calls failed, %d were seen by the peer, %d dials in %v", failed, bad.calls.Load(), bad.dials.Load(), took)
			// 50 ms doubled up to 1 s gives 5 dials in the first second and one in each further one. Each may catch a call.
			most := 8 + int(took/time.Second)
			if failed > most || failed > 0 && !how.mayFail {
				t.Errorf("%d of 200 calls failed", failed)
			}
			if n := bad.calls.Load(); n > int64(most) {
				t.Errorf("the flapping peer was sent %d of 200 calls", n)
			}
			if n := bad.dials.Load(); n > int64(most) {
				t.Errorf("the flapping peer was dialled %d times in %v", n, took)
			}
			s.quiet()
		})
	}
}

// Where there is no other peer, a call gives up after a few connections.
func TestFlappingPeerAloneIsBounded(t *testing.T) {
	leakCheck(t)
	bad := startFlapping(t, "GOAWAY after SETTINGS")
	s := startSidecar(t, options{})
	s.set(instance("only", bad.address))
	began := time.Now()
	_, err := unary(testContext(t), dial(t, s.address), "x")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	t.Logf("%v after %v and %d dials", err, time.Since(began), bad.dials.Load())
	if n := bad.dials.Load(); n > 10 {
		t.Errorf("%d dials for one call", n)
	}
	s.quiet()
}

// A peer that is tried again forgives itself by response headers: an app that only streams ends no call for hours.
func TestPeerIsForgivenWhenItBeginsToAnswer(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, hold(nil))
	s := startSidecar(t, options{routing: func(c *routing.Config) { c.BackoffBase = 10 * time.Millisecond }})
	s.use(b)
	p := s.router.Known()[0]
	s.router.Refuse(p)
	st, err := dial(t, s.address).NewStream(testContext(t), bidi, method, grpc.WaitForReady(true))
	must(t, err)
	_, err = st.Header()
	must(t, err)
	if p.BackedOff() {
		t.Error("the peer has begun to answer and is still backed off")
	}
}

// Accepting a connection is no answer.
func TestPeerIsNotForgivenForAcceptingConnections(t *testing.T) {
	leakCheck(t)
	bad := startFlapping(t, "GOAWAY after SETTINGS")
	s := startSidecar(t, options{})
	s.set(instance("only", bad.address))
	_, _ = unary(testContext(t), dial(t, s.address), "x")
	dials := bad.dials.Load()
	eventually(t, "it is dialled again", func() bool { return bad.dials.Load() > dials })
	if !s.router.Known()[0].BackedOff() {
		t.Error("the peer is not backed off")
	}
}

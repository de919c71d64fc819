package enginetest

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

// flappingPeers are tests of peers whose connections come up and go.
func flappingPeers() []one {
	return []one{
		{"DialledSeldomAndAvoided", testFlappingPeerIsAvoided},
		{"AloneIsBounded", testFlappingPeerAlone},
		{"ForgivenWhenItBeginsToAnswer", testForgivenWhenItAnswers},
		{"NotForgivenForAcceptingConnections", testNotForgivenForAccepting},
	}
}

// flapping is such a peer. It counts its connections, and the calls that it was sent.
type flapping struct {
	*RawPeer
	dials, calls atomic.Int64
}

func startFlapping(t *testing.T, how string) *flapping {
	f := &flapping{}
	f.RawPeer = StartRawPeer(t, nil, func(c *RawConn) {
		f.dials.Add(1)
		switch how {
		case "GOAWAY after SETTINGS":
			_ = c.Framer.WriteGoAway(0, http2.ErrCodeNo, nil)
			c.Drain()
		case "closes after HEADERS":
			if c.Next() != nil {
				f.calls.Add(1)
			}
		}
	})
	return f
}

// A peer that accepts connections and drops them is dialled ever less often, and calls go to the healthy one beside it.
func testFlappingPeerIsAvoided(t *testing.T, e Subject) {
	for _, how := range []struct {
		name    string
		mayFail bool // a call whose headers were sent on a connection that then breaks may have been run
	}{
		{name: "GOAWAY after SETTINGS"}, {"closes after SETTINGS", true}, {"closes after HEADERS", true},
	} {
		t.Run(how.name, func(t *testing.T) {
			CheckLeaks(t)
			bad := startFlapping(t, how.name)
			b := StartBackend(t, Echo)
			s := e.Start(t, Setup{})
			s.Set(Instance("a", bad.Address), Instance("b", b.Address))
			cc := Dial(t, s.Address)
			failed, made := 0, 0
			pace := time.NewTicker(2 * time.Millisecond)
			defer pace.Stop()
			began := time.Now()
			for time.Since(began) < time.Second || made < 200 {
				made++
				if _, err := Unary(Context(t), cc, "x"); status.Code(err) == codes.Unavailable {
					failed++
				} else {
					Must(t, err)
				}
				<-pace.C
			}
			took := time.Since(began)
			t.Logf("%d of %d calls failed, %d were seen by the peer, %d dials in %v", failed, made, bad.calls.Load(),
				bad.dials.Load(), took)
			most := mostDials(took) // each may catch a call
			if int64(failed) > most || failed > 0 && !how.mayFail {
				t.Errorf("%d of %d calls failed", failed, made)
			}
			if n := bad.calls.Load(); n > most {
				t.Errorf("the flapping peer was sent %d of %d calls", n, made)
			}
			if n := bad.dials.Load(); n > most {
				t.Errorf("the flapping peer was dialled %d times in %v", n, took)
			}
			s.Quiet()
		})
	}
}

// Where there is no other peer, a call gives up after a few connections.
func testFlappingPeerAlone(t *testing.T, e Subject) {
	bad := startFlapping(t, "GOAWAY after SETTINGS")
	s := e.Start(t, Setup{})
	s.Set(Instance("only", bad.Address))
	began := time.Now()
	_, err := Unary(Context(t), Dial(t, s.Address), "x")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	t.Logf("%v after %v and %d dials", err, time.Since(began), bad.dials.Load())
	if n := bad.dials.Load(); n > 10 {
		t.Errorf("%d dials for one call", n)
	}
	s.Quiet()
}

// A peer that is tried again forgives itself by response headers: an app that only streams ends no call for hours.
func testForgivenWhenItAnswers(t *testing.T, e Subject) {
	b := StartBackend(t, Hold(nil))
	s := e.Start(t, Setup{Routing: func(c *routing.Config) { c.BackoffBase = 10 * time.Millisecond }})
	s.Use(b)
	p := s.Router.Known()[0]
	s.Router.Refuse(p)
	Begin(t, Context(t), Dial(t, s.Address), grpc.WaitForReady(true))
	if p.BackedOff() {
		t.Error("the peer has begun to answer and is still backed off")
	}
}

// Accepting a connection is no answer.
func testNotForgivenForAccepting(t *testing.T, e Subject) {
	bad := startFlapping(t, "GOAWAY after SETTINGS")
	s := e.Start(t, Setup{})
	s.Set(Instance("only", bad.Address))
	cc := Dial(t, s.Address)
	_, _ = Unary(Context(t), cc, "x")
	dials := bad.dials.Load()
	Eventually(t, "it is dialled again", func() bool {
		_, _ = Unary(Context(t), cc, "x")
		return bad.dials.Load() > dials
	})
	if !s.Router.Known()[0].BackedOff() {
		t.Error("the peer is not backed off")
	}
}

package enginetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// observer are tests of what the observer is told.
func observer() []one {
	return []one{
		{"HowCallsWent", testObserverHowCallsWent},
		{"NamesOnlyPeersThatWereSentTheCall", testObserverNamesPeers},
		{"CancelledCall", testObserverCancelledCall},
		{"EachCallOnce", testObserverEachCallOnce},
	}
}

func testObserverHowCallsWent(t *testing.T, e Subject) {
	b := StartBackend(t, func(*Backend, grpc.ServerStream) error { return status.Error(codes.Aborted, "") })
	s := e.Start(t, Setup{})
	cc := Dial(t, s.Address)
	_, _ = Unary(Context(t), cc, "x")
	s.Set(Instance("dead", deadAddress(t)), Instance("live", b.Address))
	for range 2 { // round robin: one of the two begins with the dead one
		_, _ = Unary(Context(t), cc, "x")
	}
	s.Quiet()
	ended := s.Told.calls()
	if len(ended) != 3 {
		t.Fatalf("%d calls ended", len(ended))
	}
	if i := ended[0]; i.Code != codes.Unavailable || i.Service != "app" || i.PeerID != "" || i.Method != Method || i.Attempts != 0 {
		t.Errorf("the call without a peer: %+v", i.CallInfo)
	}
	attempts := 0
	for _, i := range ended[1:] {
		attempts += i.Attempts
		if i.Code != codes.Aborted || i.PeerID != "live" || i.PeerRegion != "fra" || i.Service != "app" || i.Latency <= 0 {
			t.Errorf("%+v", i.CallInfo)
		}
	}
	if attempts != 3 {
		t.Errorf("%d attempts, want 3", attempts)
	}
}

// A peer that could not be connected to did not have the call.
func testObserverNamesPeers(t *testing.T, e Subject) {
	s := e.Start(t, Setup{})
	s.Set(Instance("dead", deadAddress(t)))
	if _, err := Unary(Context(t), Dial(t, s.Address), "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	s.Quiet()
	ended := s.Told.calls()
	if len(ended) != 1 {
		t.Fatalf("%d calls ended", len(ended))
	}
	if i := ended[0]; i.Service != "app" || i.PeerID != "" || i.PeerRegion != "" || i.Attempts != 1 {
		t.Errorf("%+v", i.CallInfo)
	}
}

func testObserverCancelledCall(t *testing.T, e Subject) {
	s, _, cc := e.Pair(t, Hold(nil))
	ctx, cancel := context.WithCancel(Context(t))
	Begin(t, ctx, cc)
	cancel()
	s.Quiet()
	if i := s.Told.calls()[0]; i.Code != codes.Canceled || i.PeerID != "i0" || i.Attempts != 1 {
		t.Errorf("%+v", i.CallInfo)
	}
}

// Whatever ends calls, and however much of it happens at the same time: each is told of once, with the code that its client got.
func testObserverEachCallOnce(t *testing.T, e Subject) {
	b := StartBackend(t, func(b *Backend, s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		switch md["end"][0] {
		case "status":
			return status.Error(codes.Aborted, "")
		case "hold":
			return Hold(nil)(b, s)
		}
		return Echo(b, s)
	}, grpc.MaxConcurrentStreams(8))
	var turn sync.Mutex
	turns := 0
	odd := StartRawPeer(t, nil, func(c *RawConn) {
		for h := c.Next(); h != nil; h = c.Next() {
			turn.Lock()
			turns++
			n := turns
			turn.Unlock()
			switch n % 16 {
			default:
				_ = c.Framer.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
			case 1: // the client may get this, or cancel before
				_ = c.Framer.WriteRSTStream(h.StreamID, http2.ErrCodeInternal)
			case 2:
				c.goAway(h.StreamID)
				c.Drain()
				return
			case 3:
				return // lost
			}
		}
	})
	setup := most(1)
	setup.Routing = func(c *routing.Config) { c.BackoffBase, c.BackoffMax = time.Millisecond, time.Millisecond }
	s := e.Start(t, setup)
	s.Set(Instance("odd", odd.Address), Instance("even", b.Address))
	cc := Dial(t, s.Address)
	const callers, each = 16, 30
	var mu sync.Mutex
	got := make(map[string]codes.Code)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range each {
				method := fmt.Sprintf("/test.Test/Call%d-%d", i, j)
				how := []string{"ok", "status", "hold", "cancel"}[rand.IntN(4)]
				ctx, cancel := context.WithTimeout(context.Background(), Patience)
				if how == "hold" || how == "cancel" {
					defer time.AfterFunc(rand.N(5*time.Millisecond), cancel).Stop()
				}
				_, err := unaryOf(metadata.AppendToOutgoingContext(ctx, "end", how), cc, method, "x")
				cancel()
				mu.Lock()
				got[method] = status.Code(err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s.Quiet()
	byCode := make(map[codes.Code]int)
	told := make(map[string]codes.Code)
	for _, i := range s.Told.calls() {
		if _, again := told[i.Method]; again {
			t.Errorf("%s was told of twice", i.Method)
		}
		told[i.Method] = i.Code
		byCode[i.Code]++
	}
	t.Logf("%d calls by code: %v", len(told), byCode)
	for method, code := range got {
		// A client that cancels does not wait for what it would have got, and may do so before the engine has its call.
		if i, ok := told[method]; code != codes.Canceled && (!ok || i != code) {
			t.Errorf("%s ended with %v, and the observer was told %v (%v)", method, code, i, ok)
		}
	}
}

package enginetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/engine"
)

// deadlines are tests of grpc-timeout. Where it is to pass, the client is a scripted one that only says it, so that it is the
// engine that has to end the call.
func deadlines() []one {
	return []one{
		{"Forwarded", testDeadlineForwarded},
		{"WaitingCallHasLessLeft", testWaitingCallHasLessLeft},
		{"OfCallThatPeerHolds", testDeadlineAtPeer},
		{"WhileConnecting", testDeadlineWhileConnecting},
		{"WhileWaitingForRoom", testDeadlineWhileWaiting},
		{"OfClient", testDeadlineOfClient},
	}
}

// untilDeadline is a peer's handler that tells how much time a call has left.
func untilDeadline(left chan<- time.Duration) Handler {
	return func(_ *Backend, s grpc.ServerStream) error {
		d, ok := s.Context().Deadline()
		if !ok {
			return status.Error(codes.Internal, "no deadline")
		}
		Offer(left, time.Until(d))
		return nil
	}
}

func testDeadlineForwarded(t *testing.T, e Subject) {
	left := make(chan time.Duration, 1)
	_, _, cc := e.Pair(t, untilDeadline(left))
	const timeout = time.Minute
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_, _ = Unary(ctx, cc, "")
	if d, least := Receive(t, left), timeout-time.Since(began); d > timeout || d < least {
		t.Errorf("the peer had %v left, want %v to %v", d, least, timeout)
	}
}

// A call that has waited inside of the engine has less time left than its client has said.
func testWaitingCallHasLessLeft(t *testing.T, e Subject) {
	left, release := make(chan time.Duration, 1), make(chan struct{})
	b := StartBackend(t, func(b *Backend, s grpc.ServerStream) error {
		if md, _ := metadata.FromIncomingContext(s.Context()); md["hold"] != nil {
			return Hold(release)(b, s)
		}
		return untilDeadline(left)(b, s)
	}, grpc.MaxConcurrentStreams(1))
	s := e.Start(t, Setup{Options: Options{MaxConnectionsPerPeer: 1}})
	s.Use(b)
	holds := Begin(t, metadata.AppendToOutgoingContext(Context(t), "hold", ""), Dial(t, s.Address))
	c := DialRaw(t, s.Address)
	c.Request(1, true, "grpc-timeout", "60S")
	s.AwaitWaiting(1)
	began := time.Now()
	Eventually(t, "it has waited a while", func() bool { return time.Since(began) > 20*time.Millisecond })
	waited := time.Since(began)
	close(release)
	End(t, holds)
	if d := Receive(t, left); d > time.Minute-waited {
		t.Errorf("the peer had %v left after %v of 1 minute", d, waited)
	}
	s.Quiet()
}

// wantDeadline awaits the end of a client's only open call by its deadline, as the client and the observer are told. n is how many
// calls have ended then.
func (e Subject) wantDeadline(t testing.TB, s *Sidecar, c *RawConn, n int) engine.CallInfo {
	t.Helper()
	if code, message := c.Result(); code != "4" && (code != "CANCEL" || e.TellsDeadlines) {
		t.Fatalf("the client got %s %s, want DEADLINE_EXCEEDED", code, message)
	}
	Eventually(t, "the call has ended", func() bool { return len(s.Told.calls()) == n })
	i := s.Told.calls()[n-1].CallInfo
	if i.Code != codes.DeadlineExceeded && (i.Code != codes.Canceled || e.TellsDeadlines) {
		t.Errorf("the observer was told %+v, want DEADLINE_EXCEEDED", i)
	}
	return i
}

// A peer may not keep to the deadline, and a client may not end the call when it passes: the engine tells both.
func testDeadlineAtPeer(t *testing.T, e Subject) {
	for _, when := range []string{"before headers", "after headers"} {
		t.Run(when, func(t *testing.T) {
			CheckLeaks(t)
			started, reset := make(chan struct{}, 1), make(chan http2.ErrCode, 1)
			s, c := e.RawPair(t, func(p *RawConn) {
				for f := p.Frame(); f != nil; f = p.Frame() {
					switch f := f.(type) {
					case *http2.MetaHeadersFrame:
						if when == "after headers" {
							p.Respond(f.StreamID)
						}
						Offer(started, struct{}{})
					case *http2.RSTStreamFrame:
						Offer(reset, f.ErrCode)
					}
				}
			})
			// On a busy machine the deadline may pass before the peer has the call: then the next call gets more time.
			timeout := 50 * time.Millisecond
			for n := 1; len(started) == 0; n++ {
				timeout *= 2
				began := time.Now()
				c.Request(uint32(2*n-1), false, "grpc-timeout", fmt.Sprint(timeout.Milliseconds(), "m"))
				if i := e.wantDeadline(t, s, c, n); i.Latency <= 0 || len(started) > 0 && i.PeerID != "only" {
					t.Errorf("the observer was told %+v", i)
				}
				if took := time.Since(began); took < timeout {
					t.Errorf("a call with %s ended after %s", timeout, took)
				}
			}
			if code := Receive(t, reset); code != http2.ErrCodeCancel {
				t.Errorf("the peer got RST_STREAM(%v)", code)
			}
			s.Quiet()
		})
	}
}

func testDeadlineWhileConnecting(t *testing.T, e Subject) {
	silent := Listen(t, "127.0.0.1:0")
	defer silent.Close()
	s := e.Start(t, Setup{Options: Options{ConnectTimeout: time.Minute}})
	s.Set(Instance("silent", silent.Addr().String()))
	c := DialRaw(t, s.Address)
	c.Request(1, true, "grpc-timeout", "100m")
	if i := e.wantDeadline(t, s, c, 1); i.PeerID != "" {
		t.Errorf("the observer was told %+v", i)
	}
	s.Quiet()
}

func testDeadlineWhileWaiting(t *testing.T, e Subject) {
	b := StartBackend(t, Hold(nil), grpc.MaxConcurrentStreams(1))
	s := e.Start(t, Setup{Options: Options{MaxConnectionsPerPeer: 1}})
	s.Use(b)
	ctx, cancel := context.WithCancel(Context(t))
	defer cancel()
	Begin(t, ctx, Dial(t, s.Address))
	c := DialRaw(t, s.Address)
	c.Request(1, true, "grpc-timeout", "100m")
	e.wantDeadline(t, s, c, 1)
	s.AwaitWaiting(0)
	if n := b.Calls.Load(); n != 1 {
		t.Errorf("the peer had %d calls, want the one that it holds", n)
	}
	cancel()
	s.Quiet()
}

// A client that ends its call when its own deadline passes: the peer hears of it.
func testDeadlineOfClient(t *testing.T, e Subject) {
	h, started, ended := held()
	s, _, cc := e.Pair(t, h)
	for timeout := 50 * time.Millisecond; len(started) == 0; timeout *= 2 { // as above
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		if _, err := Unary(ctx, cc, "x"); status.Code(err) != codes.DeadlineExceeded {
			t.Fatalf("got %v", err)
		}
		cancel()
	}
	Receive(t, ended)
	s.Quiet()
}

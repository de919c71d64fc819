package enginetest

import (
	"context"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
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
		offer(left, time.Until(d))
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
	holds := begin(t, metadata.AppendToOutgoingContext(Context(t), "hold", ""), Dial(t, s.Address))
	c := DialRaw(t, s.Address)
	c.Request(1, true, "grpc-timeout", "60S")
	s.awaitWaiting(1)
	began := time.Now()
	Eventually(t, "it has waited a while", func() bool { return time.Since(began) > 20*time.Millisecond })
	waited := time.Since(began)
	close(release)
	end(t, holds)
	if d := Receive(t, left); d > time.Minute-waited {
		t.Errorf("the peer had %v left after %v of 1 minute", d, waited)
	}
	s.Quiet()
}

// wantDeadline awaits the end of a client's call by its deadline, as the client and the observer are told. It is the first call
// to end.
func (e Subject) wantDeadline(t testing.TB, s *Sidecar, c *RawConn) {
	t.Helper()
	if code, message := c.Result(); code != "4" && (code != "CANCEL" || e.TellsDeadlines) {
		t.Errorf("the client got %s %s, want DEADLINE_EXCEEDED", code, message)
	}
	Eventually(t, "the call has ended", func() bool { return len(s.Told.calls()) > 0 })
	if i := s.Told.calls()[0]; i.Code != codes.DeadlineExceeded && (i.Code != codes.Canceled || e.TellsDeadlines) {
		t.Errorf("the observer was told %+v, want DEADLINE_EXCEEDED", i.CallInfo)
	}
}

// A peer may not keep to the deadline, and a client may not end the call when it passes: the engine tells both.
func testDeadlineAtPeer(t *testing.T, e Subject) {
	for _, when := range []string{"before headers", "after headers"} {
		t.Run(when, func(t *testing.T) {
			CheckLeaks(t)
			reset := make(chan http2.ErrCode, 1)
			s, c := e.RawPair(t, func(p *RawConn) {
				h := p.Next()
				if h == nil {
					return
				}
				if when == "after headers" {
					p.Respond(h.StreamID)
				}
				for f := p.Frame(); f != nil; f = p.Frame() {
					if f, ok := f.(*http2.RSTStreamFrame); ok {
						offer(reset, f.ErrCode)
					}
				}
			})
			c.Request(1, false, "grpc-timeout", "100m")
			e.wantDeadline(t, s, c)
			if code := Receive(t, reset); code != http2.ErrCodeCancel {
				t.Errorf("the peer got RST_STREAM(%v)", code)
			}
			if i := s.Told.calls()[0]; i.PeerID != "only" || i.Latency < 100*time.Millisecond {
				t.Errorf("the observer was told %+v", i.CallInfo)
			}
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
	e.wantDeadline(t, s, c)
	if i := s.Told.calls()[0]; i.PeerID != "" {
		t.Errorf("the observer was told %+v", i.CallInfo)
	}
	s.Quiet()
}

func testDeadlineWhileWaiting(t *testing.T, e Subject) {
	b := StartBackend(t, Hold(nil), grpc.MaxConcurrentStreams(1))
	s := e.Start(t, Setup{Options: Options{MaxConnectionsPerPeer: 1}})
	s.Use(b)
	ctx, cancel := context.WithCancel(Context(t))
	defer cancel()
	begin(t, ctx, Dial(t, s.Address))
	c := DialRaw(t, s.Address)
	c.Request(1, true, "grpc-timeout", "100m")
	e.wantDeadline(t, s, c)
	s.awaitWaiting(0)
	if n := b.Calls.Load(); n != 1 {
		t.Errorf("the peer had %d calls, want the one that it holds", n)
	}
	cancel()
	s.Quiet()
}

// A client that ends its call when its own deadline passes: the peer hears of it.
func testDeadlineOfClient(t *testing.T, e Subject) {
	h, _, ended := held()
	s, _, cc := e.Pair(t, h)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := Unary(ctx, cc, "x"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	Receive(t, ended)
	s.Quiet()
}

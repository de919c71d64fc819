package enginetest

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// lifecycle are tests of Serve, Drain and Close.
func lifecycle() []one {
	return []one{
		{"ServeOnSeveralListeners", testSeveralListeners},
		{"ServeFailsWhenOneListenerDoes", testOneListenerFails},
		{"CloseWithoutServe", testCloseWithoutServe},
		{"CloseCutsCalls", testCloseCutsCalls},
		{"CloseFreesPeers", testCloseFreesPeers},
		{"DrainLetsCallsEnd", testDrainLetsCallsEnd},
		{"DrainTellsClients", testDrainTellsClients},
		{"DrainIsBounded", testDrainIsBounded},
		{"DrainCutsWaitingCalls", testDrainCutsWaitingCalls},
		{"DrainWithoutCalls", testDrainWithoutCalls},
		{"FrequentPingsAreNotPunished", testFrequentPings},
	}
}

func testSeveralListeners(t *testing.T, e Subject) {
	l4, l6 := Listen(t, "127.0.0.1:0"), Listen(t, "[::1]:0")
	s := e.startOn(t, Setup{}, l4, l6)
	s.Use(StartBackend(t, Echo))
	for _, l := range []string{l4.Addr().String(), l6.Addr().String()} {
		_, err := Unary(Context(t), Dial(t, l), "x")
		Must(t, err)
	}
	Must(t, s.Engine.Close()) // and once more when the test ends
}

func testOneListenerFails(t *testing.T, e Subject) {
	s := e.make(t, Setup{})
	defer s.Engine.Close()
	good, bad := Listen(t, "127.0.0.1:0"), Listen(t, "127.0.0.1:0")
	bad.Close()
	if err := s.Engine.Serve(good, bad); err == nil {
		t.Error("no error")
	}
	if good.Close() == nil {
		t.Error("the other listener was left open")
	}
}

func testCloseWithoutServe(t *testing.T, e Subject) {
	s := e.make(t, Setup{})
	Must(t, s.Engine.Close())
	Must(t, s.Engine.Close())
	l := Listen(t, "127.0.0.1:0")
	Must(t, s.Engine.Serve(l))
	if l.Close() == nil {
		t.Error("the listener was left open")
	}
}

func testCloseCutsCalls(t *testing.T, e Subject) {
	h, started, ended := held()
	s, _, cc := e.Pair(t, h)
	st := Open(t, Context(t), cc)
	Receive(t, started)
	Must(t, s.Engine.Close())
	if err := st.RecvMsg(new(Message)); status.Code(err) != codes.Unavailable {
		t.Errorf("the call that was cut: %v", err)
	}
	Receive(t, ended)
	s.Quiet()
}

func testCloseFreesPeers(t *testing.T, e Subject) {
	closed := make(chan struct{}, 1)
	s, c := e.RawPair(t, func(p *RawConn) {
		AnswerAll("x")(p)
		Offer(closed, struct{}{})
	})
	c.Request(1, true)
	if code, _ := c.Result(); code != "0" {
		t.Errorf("got %s", code)
	}
	Must(t, s.Engine.Close())
	Receive(t, closed)
}

func testDrainLetsCallsEnd(t *testing.T, e Subject) {
	release := make(chan struct{})
	s, _, cc := e.Pair(t, Hold(release))
	st := Begin(t, Context(t), cc)
	drained := make(chan error, 1)
	ctx := Context(t)
	go func() { drained <- s.Engine.Drain(ctx) }()
	Eventually(t, "no new connections", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := Unary(ctx, Dial(t, s.Address), "x")
		return status.Code(err) == codes.Unavailable
	})
	close(release)
	finish(t, st)
	Must(t, Receive(t, drained))
	s.Quiet()
}

// A client with calls is told to make no more of them, and by then has a last stream id below which everything is done
// (RFC 9113 §6.8). Its calls go on, and then the connection ends.
func testDrainTellsClients(t *testing.T, e Subject) {
	release := make(chan struct{})
	b := StartBackend(t, Hold(release))
	s := e.Start(t, Setup{})
	s.Use(b)
	c := DialRaw(t, s.Address)
	c.Request(1, false)
	if c.Next() == nil {
		t.Fatal("connection lost")
	}
	drained := make(chan error, 1)
	ctx := Context(t)
	go func() { drained <- s.Engine.Drain(ctx) }()
	last := uint32(math.MaxUint32)
	for last == math.MaxUint32 {
		switch f := c.Frame().(type) {
		case nil:
			t.Fatal("connection lost before GOAWAY")
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo || f.LastStreamID < 1 {
				t.Errorf("got GOAWAY(%v) with the last stream %d", f.ErrCode, f.LastStreamID)
			}
			last = f.LastStreamID
		}
	}
	close(release)
	c.Message(1, 0, "x")
	Must(t, c.Framer.WriteData(1, true, nil))
	if code, _ := c.Result(); code != "0" {
		t.Errorf("the call that was open ended with %s", code)
	}
	for f := c.Frame(); f != nil; f = c.Frame() {
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if g.LastStreamID > last {
				t.Errorf("the last stream id grew from %d to %d", last, g.LastStreamID)
			}
			last = g.LastStreamID
		}
	}
	Must(t, Receive(t, drained))
	s.Quiet()
}

func testDrainIsBounded(t *testing.T, e Subject) {
	s, _, cc := e.Pair(t, Hold(nil))
	st := Begin(t, Context(t), cc)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Engine.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := st.RecvMsg(new(Message)); status.Code(err) != codes.Unavailable {
		t.Errorf("the call that was cut: %v", err)
	}
	s.Quiet()
}

// A call that waits for room is open too.
func testDrainCutsWaitingCalls(t *testing.T, e Subject) {
	s, _, cc, _ := full(t, e)
	waits := Open(t, Context(t), cc)
	s.AwaitWaiting(1)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Engine.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := waits.RecvMsg(new(Message)); status.Code(err) != codes.Unavailable {
		t.Errorf("the call that was cut: %v", err)
	}
	s.Quiet()
}

// Connections without calls, of clients and to peers, keep nobody. Afterwards there is no way back.
func testDrainWithoutCalls(t *testing.T, e Subject) {
	s, _, cc := e.Pair(t, Echo)
	_, err := Unary(Context(t), cc, "x")
	Must(t, err)
	Must(t, s.Engine.Drain(Context(t)))
	Must(t, s.Engine.Drain(Context(t)))
	if _, err := Unary(Context(t), cc, "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("after Drain: %v", err)
	}
}

// A client that PINGs every few milliseconds is a nuisance to servers on the network, not to one on the same Machine.
func testFrequentPings(t *testing.T, e Subject) {
	s := e.Start(t, Setup{})
	c := DialRaw(t, s.Address)
	for i := range 200 {
		Must(t, c.Framer.WritePing(false, [8]byte{byte(i)}))
		for {
			f, err := c.Framer.ReadFrame()
			Must(t, err)
			if g, ok := f.(*http2.GoAwayFrame); ok {
				t.Fatalf("GOAWAY after %d PINGs: %v", i, g)
			}
			if p, ok := f.(*http2.PingFrame); ok && p.IsAck() && p.Data[0] == byte(i) {
				break
			}
		}
	}
}

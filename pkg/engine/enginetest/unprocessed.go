package enginetest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// unprocessed are tests of calls that a peer has provably not processed: those above a GOAWAY's last stream id (RFC 9113 §6.8),
// and those that it has refused (§8.7). They go elsewhere, unseen.
func unprocessed() []one {
	return []one{
		{"GoesToAnotherPeer", testUnprocessedGoesElsewhere},
		{"IsReplayedWithWhatWasSent", testUnprocessedIsReplayed},
		{"GoesToSamePeerIfAlone", testUnprocessedAlone},
		{"CallsBelowLastStreamIDFinish", testBelowLastStreamID},
		{"GracefulGoAway", testGracefulGoAway},
		{"RefusedAfterHeadersIsHarmless", testRefusedAfterHeaders},
		{"ThatNobodyTakesSaysSo", testUnprocessedByAll},
	}
}

// unwilling is a way not to process a call.
type unwilling struct {
	name string
	// script is that of a peer that takes no call, turn turns one away.
	script func(*RawConn)
	turn   func(c *RawConn, stream uint32)
}

func unwillings() []unwilling {
	return []unwilling{
		{"GOAWAY", goAway, (*RawConn).goAway},
		{"REFUSED_STREAM", Refuse, func(c *RawConn, stream uint32) {
			_ = c.Framer.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		}},
	}
}

// It does not count as a retry: grpc-previous-rpc-attempts stays as it is.
func testUnprocessedGoesElsewhere(t *testing.T, e Subject) {
	for _, how := range unwillings() {
		t.Run(how.name, func(t *testing.T) {
			CheckLeaks(t)
			var attempts atomic.Value
			b := StartBackend(t, func(b *Backend, s grpc.ServerStream) error {
				md, _ := metadata.FromIncomingContext(s.Context())
				attempts.Store(fmt.Sprint(md["grpc-previous-rpc-attempts"]))
				return Echo(b, s)
			})
			s := e.Start(t, Setup{})
			s.Set(Instance("a", StartRawPeer(t, nil, how.script).Address), Instance("b", b.Address))
			cc := Dial(t, s.Address)
			for range 20 {
				got, err := Unary(Context(t), cc, "the body is replayed")
				Must(t, err)
				if got != "the body is replayed" {
					t.Fatalf("got %q", got)
				}
				if a := attempts.Load(); a != "[]" {
					t.Fatalf("grpc-previous-rpc-attempts is %v", a)
				}
			}
			s.Quiet()
		})
	}
}

// What the client had sent when the peer turned the call away comes first, once, and what it sends later follows.
func testUnprocessedIsReplayed(t *testing.T, e Subject) {
	for _, how := range unwillings() {
		t.Run(how.name, func(t *testing.T) {
			CheckLeaks(t)
			// 52 KiB may have to be kept: within the bounds of either engine.
			const before, meanwhile, after, size = 20, 6, 20, 2 << 10
			turned := make(chan struct{}, 1)
			raw := StartRawPeer(t, nil, func(c *RawConn) {
				h := c.Next()
				if h == nil {
					return
				}
				for n := 0; n < before*size; n += len(c.Data()) {
				}
				how.turn(c, h.StreamID)
				Offer(turned, struct{}{})
				c.Drain()
			})
			b := StartBackend(t, Echo)
			s := e.Start(t, Setup{})
			s.Set(Instance("a", raw.Address))
			st := Open(t, Context(t), Dial(t, s.Address))
			all := make([]byte, (before+meanwhile+after)*size)
			rand.Read(all)
			part := func(i int) *Message { m := Message(all[i*size:][:size]); return &m }
			send := func(from, to int) {
				t.Helper()
				for i := from; i < to; i++ {
					Must(t, st.SendMsg(part(i)))
				}
			}
			receive := func(from, to int) {
				t.Helper()
				for i := from; i < to; i++ {
					var m Message
					Must(t, st.RecvMsg(&m))
					if !bytes.Equal(m, *part(i)) {
						t.Fatalf("message %d came back changed", i)
					}
				}
			}
			send(0, 1)
			Eventually(t, "the peer has the call", func() bool { return peerOf(s.Engine.Stats(), "a").Streams == 1 })
			s.Set(Instance("a", raw.Address), Instance("b", b.Address))
			send(1, before)
			Receive(t, turned)
			send(before, before+meanwhile) // the engine may not know yet
			receive(0, before+meanwhile)
			send(before+meanwhile, before+meanwhile+after)
			receive(before+meanwhile, before+meanwhile+after)
			End(t, st)
			s.Quiet()
			if i := s.Told.calls()[0]; i.Code != codes.OK || i.PeerID != "b" || i.Attempts != 2 {
				t.Errorf("the observer was told %+v", i.CallInfo)
			}
		})
	}
}

// Where there is only one peer, it gets the call again, on a new connection.
func testUnprocessedAlone(t *testing.T, e Subject) {
	raw := StartRawPeer(t, nil, func(c *RawConn) {
		if c.N == 0 {
			goAway(c)
			return
		}
		AnswerAll("second connection")(c)
	})
	s := e.Start(t, Setup{})
	s.Set(Instance("only", raw.Address))
	got, err := Unary(Context(t), Dial(t, s.Address), "x")
	Must(t, err)
	if got != "second connection" {
		t.Errorf("got %q", got)
	}
	s.Quiet()
}

// One GOAWAY, two calls: the one below the last stream id finishes where it is, the one above goes to a new connection.
func testBelowLastStreamID(t *testing.T, e Subject) {
	raw := StartRawPeer(t, nil, func(c *RawConn) {
		if c.N > 0 {
			AnswerAll("new")(c)
			return
		}
		first, second := c.Next(), c.Next()
		if second == nil {
			return
		}
		_ = c.Framer.WriteGoAway(first.StreamID, http2.ErrCodeNo, nil)
		c.Answer(first.StreamID, "old")
		c.Drain()
	})
	s := e.Start(t, Setup{})
	s.Set(Instance("only", raw.Address))
	c := DialRaw(t, s.Address)
	c.Request(1, true)
	c.Request(3, true)
	var got []string
	for len(got) < 2 {
		got = append(got, strings.TrimLeft(string(c.Data()), "\x00\x03"))
	}
	if slices.Sort(got); !slices.Equal(got, []string{"new", "old"}) {
		t.Errorf("got %q", got)
	}
	s.Quiet()
}

// A GOAWAY with the largest id says that the peer is about to go, and is followed by one with the last stream's: meanwhile the
// peer takes calls that were on their way. Those that it has had by then finish there.
func testGracefulGoAway(t *testing.T, e Subject) {
	leaving, left := make(chan struct{}, 1), make(chan struct{})
	raw := StartRawPeer(t, nil, func(c *RawConn) {
		if c.N > 0 {
			AnswerAll("new")(c)
			return
		}
		h := c.Next()
		if h == nil {
			return
		}
		_ = c.Framer.WriteGoAway(math.MaxInt32, http2.ErrCodeNo, nil)
		Offer(leaving, struct{}{})
		c.Wait(left)
		_ = c.Framer.WriteGoAway(h.StreamID, http2.ErrCodeNo, nil)
		c.Answer(h.StreamID, "old")
		c.Drain()
	})
	s := e.Start(t, Setup{})
	s.Set(Instance("only", raw.Address))
	cc := Dial(t, s.Address)
	first := Later(t, cc)
	Receive(t, leaving)
	var onTheirWay []<-chan string
	Eventually(t, "new calls go to a new connection", func() bool {
		c, timer := Later(t, cc), time.NewTimer(100*time.Millisecond)
		defer timer.Stop()
		select {
		case got := <-c:
			return got == "new<nil>"
		case <-timer.C:
			onTheirWay = append(onTheirWay, c)
			return false
		}
	})
	close(left)
	if got := Receive(t, first); got != "old<nil>" {
		t.Errorf("the call that was there before: %s", got)
	}
	for _, c := range onTheirWay {
		if got := Receive(t, c); got != "new<nil>" {
			t.Errorf("a call that was on its way: %s", got)
		}
	}
	s.Quiet()
}

// A peer that sends response headers and then refuses has broken its word (RFC 9113 §8.7). The engine does not replay what has
// begun; nor does anything come apart.
func testRefusedAfterHeaders(t *testing.T, e Subject) {
	raw := StartRawPeer(t, nil, func(c *RawConn) {
		for h := c.Next(); h != nil; h = c.Next() {
			c.Respond(h.StreamID)
			_ = c.Framer.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
		}
	})
	b := StartBackend(t, Echo)
	s := e.Start(t, Setup{})
	s.Set(Instance("a", raw.Address), Instance("b", b.Address))
	cc := Dial(t, s.Address)
	answered := 0
	for range 400 {
		st := Open(t, metadata.AppendToOutgoingContext(Context(t), "grpc-accept-encoding", "gzip"), cc)
		m := Message("x")
		var err error
		for i := 0; i < 50 && err == nil; i++ {
			err = st.SendMsg(&m)
		}
		_ = st.CloseSend()
		for err = nil; err == nil; {
			err = st.RecvMsg(new(Message))
		}
		switch {
		case err == io.EOF:
			answered++
		case status.Code(err) != codes.Unavailable, !e.PassesResets && !strings.Contains(err.Error(), "app/a"):
			t.Fatal(err)
		}
	}
	if answered < 200 {
		t.Errorf("%d of 400 calls were answered, want at least the half that went to the healthy peer", answered)
	}
	s.Quiet()
}

// A call that every peer has left unprocessed was lost by none.
func testUnprocessedByAll(t *testing.T, e Subject) {
	s := e.Start(t, Setup{})
	s.Set(Instance("a", StartRawPeer(t, nil, goAway).Address), Instance("b", StartRawPeer(t, nil, goAway).Address))
	_, err := Unary(Context(t), Dial(t, s.Address), "x")
	if st := status.Convert(err); st.Code() != codes.Unavailable || !strings.Contains(st.Message(), "did not process the call") ||
		strings.Contains(st.Message(), "lost") {
		t.Errorf("got %v", st)
	}
	s.Quiet()
}

package enginetest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
)

// room are tests of calls at a peer's SETTINGS_MAX_CONCURRENT_STREAMS: they get another connection, another peer, or wait.
func room() []one {
	return []one{
		{"FullPeerGetsAnotherConnection", testFullPeer},
		{"FirstStreamThatEndsIsTheWaitingCalls", testFirstStreamThatEnds},
		{"WaitingCallLeavesRemovedPeer", testWaitingCallLeavesRemovedPeer},
		{"WaitingCallGoesToNewPeer", testWaitingCallGoesToNewPeer},
		{"WaitingCallSurvivesTheConnection", testWaitingCallSurvivesTheConnection},
		{"WaitingCallCanBeCancelled", testWaitingCallCanBeCancelled},
		{"WaitingClientGoes", testWaitingClientGoes},
		{"PeerWithoutRoomIsPassedOver", testPeerWithoutRoom},
		{"ReplayedCallWaits", testReplayedCallWaits},
		{"LaterLimitIsSeen", testLaterStreamLimit},
		{"ManyAreServedInTurn", testManyWaitingCalls},
		{"NoWakeUpIsLost", testNoWakeUpIsLost},
	}
}

// most is a setup with a bound on the connections to a peer.
func most(connections int) Setup {
	return Setup{Options: Options{MaxConnectionsPerPeer: connections}}
}

// full is a sidecar with one peer that takes one call, and has it until release is called; and a client.
func full(t *testing.T, e Subject) (s *Sidecar, b *Backend, cc *grpc.ClientConn, release func()) {
	t.Helper()
	b = StartBackend(t, Hold(nil), grpc.MaxConcurrentStreams(1))
	s = e.Start(t, most(1))
	s.Set(Instance("full", b.Address))
	cc = Dial(t, s.Address)
	ctx, cancel := context.WithCancel(Context(t))
	Begin(t, ctx, cc)
	return s, b, cc, cancel
}

func testFullPeer(t *testing.T, e Subject) {
	release := make(chan struct{})
	b := StartBackend(t, Hold(release), grpc.MaxConcurrentStreams(1))
	s := e.Start(t, most(3))
	s.Use(b)
	cc := Dial(t, s.Address)
	var calls []<-chan string
	for range 5 {
		calls = append(calls, Later(t, cc))
	}
	Until(t, func() string {
		st := s.Engine.Stats()
		if b.Calls.Load() == 3 && st.Connections() == 3 && st.InFlight == 5 && st.Peers[0].Streams == 3 &&
			st.Peers[0].Waiting == 2 {
			return ""
		}
		return fmt.Sprintf("three calls on three connections, two waiting (the peer has %d, Stats %+v)", b.Calls.Load(), st)
	})
	close(release)
	for _, c := range calls {
		if got := Receive(t, c); got != "x<nil>" {
			t.Error(got)
		}
	}
	if n := b.Calls.Load(); n != 5 {
		t.Errorf("the peer had %d calls", n)
	}
	s.Quiet()
}

// Whichever of two full connections gets room first, the waiting call gets it.
func testFirstStreamThatEnds(t *testing.T, e Subject) {
	for ends := range 2 {
		t.Run(fmt.Sprint(ends), func(t *testing.T) {
			CheckLeaks(t)
			b := StartBackend(t, Hold(nil), grpc.MaxConcurrentStreams(1))
			s := e.Start(t, most(2))
			s.Use(b)
			cc := Dial(t, s.Address)
			var cancels []func()
			for range 2 {
				ctx, cancel := context.WithCancel(Context(t))
				Begin(t, ctx, cc)
				cancels = append(cancels, cancel)
			}
			ctx, cancel := context.WithCancel(Context(t))
			defer cancel()
			third := Open(t, ctx, cc)
			s.AwaitWaiting(1)
			cancels[ends]()
			_, err := third.Header()
			Must(t, err)
			if n := b.Calls.Load(); n != 3 {
				t.Errorf("the peer had %d calls", n)
			}
			cancels[1-ends]()
			cancel()
			s.Quiet()
		})
	}
}

// A call waits for room at a peer that the registry then removes.
func testWaitingCallLeavesRemovedPeer(t *testing.T, e Subject) {
	s, _, cc, release := full(t, e)
	other := StartBackend(t, Echo)
	waits := Later(t, cc)
	s.AwaitWaiting(1)
	s.Set(Instance("other", other.Address))
	if got := Receive(t, waits); got != "x<nil>" {
		t.Error(got)
	}
	release()
	s.Quiet()
}

// A call waits for room while a new peer is registered: it need not wait any longer.
func testWaitingCallGoesToNewPeer(t *testing.T, e Subject) {
	s, b, cc, release := full(t, e)
	other := StartBackend(t, Echo)
	waits := Later(t, cc)
	s.AwaitWaiting(1)
	s.Set(Instance("full", b.Address), Instance("other", other.Address))
	if got := Receive(t, waits); got != "x<nil>" {
		t.Error(got)
	}
	release()
	s.Quiet()
}

// The connection that a call waits for room on breaks, so there is room: on a new one.
func testWaitingCallSurvivesTheConnection(t *testing.T, e Subject) {
	lose := make(chan struct{})
	raw := StartRawPeer(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}, func(c *RawConn) {
		if c.N > 0 {
			AnswerAll("x")(c)
			return
		}
		if c.Next() != nil {
			c.Wait(lose)
		}
	})
	s := e.Start(t, most(1))
	s.Set(Instance("only", raw.Address))
	cc := Dial(t, s.Address)
	lost := Later(t, cc)
	Eventually(t, "the peer has a call", func() bool {
		p := s.Engine.Stats().Peers
		return len(p) == 1 && p[0].Streams == 1
	})
	waits := Later(t, cc)
	s.AwaitWaiting(1)
	close(lose)
	if got := Receive(t, lost); got == "x<nil>" {
		t.Error("the call that was on the connection was answered")
	}
	if got := Receive(t, waits); got != "x<nil>" {
		t.Error(got)
	}
	s.Quiet()
}

func testWaitingCallCanBeCancelled(t *testing.T, e Subject) {
	s, b, cc, release := full(t, e)
	ctx, cancel := context.WithCancel(Context(t))
	Open(t, ctx, cc)
	s.AwaitWaiting(1)
	cancel()
	s.AwaitWaiting(0)
	release()
	s.Quiet()
	if n := b.Calls.Load(); n != 1 {
		t.Errorf("the peer had %d calls, want the one that it held", n)
	}
}

// The connection of a client is lost whose call waits.
func testWaitingClientGoes(t *testing.T, e Subject) {
	s, b, _, release := full(t, e)
	other := Dial(t, s.Address)
	Open(t, Context(t), other)
	s.AwaitWaiting(1)
	other.Close()
	s.AwaitWaiting(0)
	release()
	s.Quiet()
	if n := b.Calls.Load(); n != 1 {
		t.Errorf("the peer had %d calls, want the one that it held", n)
	}
}

// A peer that takes no calls for now does not keep those that another can take.
func testPeerWithoutRoom(t *testing.T, e Subject) {
	raw := StartRawPeer(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}, AnswerAll("zero"))
	b := StartBackend(t, Echo)
	s := e.Start(t, Setup{})
	s.Set(Instance("a", raw.Address), Instance("b", b.Address))
	cc := Dial(t, s.Address)
	for range 20 {
		got, err := Unary(Context(t), cc, "x")
		if Must(t, err); got != "x" {
			t.Errorf("got %q", got)
		}
	}
	s.Quiet()
	if n := s.Engine.Stats().Connections(); n != 2 {
		t.Errorf("%d connections, want one to each peer", n)
	}
}

// A call that a peer has refused goes to another, and may have to wait there.
func testReplayedCallWaits(t *testing.T, e Subject) {
	release := make(chan struct{})
	b := StartBackend(t, Hold(release), grpc.MaxConcurrentStreams(1))
	refusing := StartRawPeer(t, nil, Refuse)
	s := e.Start(t, most(1))
	s.Set(Instance("full", b.Address))
	cc := Dial(t, s.Address)
	st := Begin(t, Context(t), cc)
	s.Set(Instance("full", b.Address), Instance("refusing", refusing.Address))
	waits := Later(t, cc)
	s.AwaitWaiting(1)
	close(release)
	End(t, st)
	if got := Receive(t, waits); got != "x<nil>" {
		t.Error(got)
	}
	s.Quiet()
}

// A peer changes its stream limit at any time (RFC 9113 §6.5.3).
func testLaterStreamLimit(t *testing.T, e Subject) {
	lowered, raise, release := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	set := func(c *RawConn, limit uint32) {
		_ = c.Framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: limit})
		for {
			f, err := c.Framer.ReadFrame()
			if err != nil {
				return
			}
			if sf, ok := f.(*http2.SettingsFrame); ok && sf.IsAck() {
				return
			}
		}
	}
	raw := StartRawPeer(t, nil, func(c *RawConn) {
		h := c.Next()
		if h == nil {
			return
		}
		set(c, 1)
		Offer(lowered, struct{}{})
		c.Wait(raise)
		set(c, 2)
		second := c.Next()
		c.Wait(release)
		c.Answer(h.StreamID, "first")
		if second != nil {
			c.Answer(second.StreamID, "second")
		}
		c.Drain()
	})
	s := e.Start(t, most(1))
	s.Set(Instance("only", raw.Address))
	cc := Dial(t, s.Address)
	first := Later(t, cc)
	Receive(t, lowered)
	second := Later(t, cc)
	s.AwaitWaiting(1)
	close(raise)
	Until(t, func() string {
		if st := s.Engine.Stats(); s.waiting() != 0 || len(st.Peers) != 1 || st.Peers[0].Streams != 2 {
			return fmt.Sprintf("both calls are with the peer (Stats has %+v)", st.Peers)
		}
		return ""
	})
	close(release)
	got := []string{Receive(t, first), Receive(t, second)}
	if slices.Sort(got); !slices.Equal(got, []string{"first<nil>", "second<nil>"}) {
		t.Errorf("got %q", got)
	}
	s.Quiet()
}

package relay_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// TestSilence shows what becomes of calls to peers that say little or nothing while their kernel acknowledges everything. Every scene
// takes a few seconds, so all begin together and are judged in turn: a judge awaits what has long been under way, and looks at times
// that were noted when it happened.
func TestSilence(t *testing.T) {
	enginetest.CheckLeaks(t)
	scenes := []struct {
		name  string
		begin func(*testing.T) (judge func(*testing.T))
	}{
		{"ReadsAndNeverAnswers", sceneMute},
		{"WasAskedTwiceBefore", sceneMuteAfterData},
		{"ComesBackInTime", sceneMuteForAWhile},
		{"AnswersPingsOnly", scenePingsOnly(false)},
		{"AnswersPingsOnlyAfterData", scenePingsOnly(true)},
		{"SilentCallBesideLivelyOnes", sceneLively},
		{"ReadsSlowlyAndCredits", sceneSlow(true, 300*time.Millisecond, time.Second)},
		{"ReadsSlowlyAndSaysNothing", sceneSlow(false, 30*time.Millisecond, oddDead)},
		{"StopsReading", sceneDeaf},
		{"AnotherConnectionIsWell", sceneOtherConnection},
	}
	judges := make([]func(*testing.T), len(scenes))
	for i, s := range scenes {
		judges[i] = s.begin(t)
	}
	for i, s := range scenes {
		t.Run(s.name, judges[i])
	}
}

// silenced checks what is owed when a peer has fallen silent at a time: new calls avoid it, and what was open ends in due time.
func (o *odd) silenced(t *testing.T, since time.Time, n *traffic, open <-chan ended) {
	t.Helper()
	e := enginetest.Receive(t, open)
	made, wrong := n.stop()
	avoided, lasted := o.last.Load().Sub(since), e.at.Sub(since)
	t.Logf("%d calls; the last new one that the silent peer was sent came after %v, the open one ended after %v; %d PINGs at the most", made,
		avoided.Round(time.Millisecond), lasted.Round(time.Millisecond), o.pings.Load())
	if wrong != "" {
		t.Errorf("calls failed that the silent peer did not have: %s", wrong)
	}
	if avoided > avoidedWithin+grace {
		t.Errorf("a new call was sent there %v after the silence began", avoided)
	}
	if status.Code(e.err) != codes.Unavailable || !strings.Contains(e.err.Error(), "app/odd") || !strings.Contains(e.err.Error(), "silent") {
		t.Errorf("the open call: %v, want UNAVAILABLE that names the peer and says that it is silent", e.err)
	}
	if lasted < oddDead || lasted > oddDead+2*grace {
		t.Errorf("the open call ended after %v, want %v", lasted, oddDead)
	}
	if p := o.pings.Load(); p < 1 || p > 2 {
		t.Errorf("%d PINGs without HEADERS or DATA of the peer between them, want one or two", p)
	}
}

// hold opens a call that the odd peer holds.
func (o *odd) hold(t *testing.T) <-chan ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*enginetest.Patience)
	t.Cleanup(cancel)
	return untilEnd(enginetest.Begin(t, metadata.AppendToOutgoingContext(pinned(ctx), "hold", ""), o.cc))
}

// busy makes calls until the odd peer has had some of them.
func (o *odd) busy(t *testing.T) *traffic {
	t.Helper()
	n := o.start(t)
	had := o.calls.Load()
	enginetest.Eventually(t, "the odd peer gets calls", func() bool { return o.calls.Load() > had+10 })
	return n
}

func sceneMute(t *testing.T) func(*testing.T) {
	o := startOdd(t, relay.Config{DeadAfter: oddDead}, nil, (*odd).readsOnly)
	open := o.hold(t)
	n := o.busy(t)
	o.mute.Store(true)
	since := time.Now()
	return func(t *testing.T) { o.silenced(t, since, n, open) }
}

// A peer that was asked as often as may be, and then sends DATA, may be asked again.
func sceneMuteAfterData(t *testing.T) func(*testing.T) {
	spoke := make(chan time.Time, 1)
	o := startOdd(t, relay.Config{DeadAfter: oddDead}, nil, func(o *odd, c *enginetest.RawConn) {
		var pings int64
		var held uint32
		for f := o.frame(c, &pings); f != nil; f = o.frame(c, &pings) {
			switch f := f.(type) {
			case *http2.PingFrame:
				if o.mute.Load() {
					continue
				}
				_ = c.Framer.WritePing(true, f.Data)
				if pings == 2 {
					c.Message(held, 0, "here I am")
					pings = 0
					o.mute.Store(true)
					spoke <- time.Now()
				}
			case *http2.MetaHeadersFrame:
				if held == 0 {
					held = f.StreamID
					c.Respond(held)
				}
			}
		}
	})
	open := o.hold(t)
	n := o.start(t)
	return func(t *testing.T) { o.silenced(t, enginetest.Receive(t, spoke), n, open) }
}

// A process that was stopped for a while, and then goes on, finds its calls as they were, and gets new ones.
func sceneMuteForAWhile(t *testing.T) func(*testing.T) {
	word := make(chan struct{})
	o := startOdd(t, relay.Config{DeadAfter: time.Minute}, nil, func(o *odd, c *enginetest.RawConn) {
		var pings int64
		o.frame(c, &pings)
		for f := o.frame(c, &pings); f != nil; f = o.frame(c, &pings) {
			switch f := f.(type) {
			case *http2.PingFrame:
				_ = c.Framer.WritePing(true, f.Data)
			case *http2.MetaHeadersFrame:
				if len(enginetest.Values(f, "hold")) > 0 {
					c.Respond(f.StreamID)
					<-word // it reads nothing meanwhile, as when it is stopped
					c.Message(f.StreamID, 0, "y")
					c.Headers(f.StreamID, true, "grpc-status", "0")
					continue
				}
				c.Answer(f.StreamID, "x")
			}
		}
	})
	open := o.hold(t)
	n := o.start(t)
	counted := make(chan int64, 1)
	go func() {
		defer close(word)
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for since := time.Now(); time.Since(since) < enginetest.Patience; <-pace.C {
			if o.stats().Silent == 1 {
				counted <- o.calls.Load()
				return
			}
		}
	}()
	return func(t *testing.T) {
		had := enginetest.Receive(t, counted) // as silent
		if e := enginetest.Receive(t, open); e.err == nil || e.err.Error() != "EOF" {
			t.Errorf("the open call: %v", e.err)
		}
		enginetest.Eventually(t, "it gets new calls again", func() bool { return o.calls.Load() > had+20 })
		if made, wrong := n.stop(); wrong != "" {
			t.Errorf("of %d calls failed %s", made, wrong)
		}
		if o.conns.Load() != 1 {
			t.Errorf("%d connections, want the first to be kept", o.conns.Load())
		}
		o.s.Quiet()
	}
}

// sceneOtherConnection has one connection to a peer fall silent, while another is well: the peer is not backed off.
func sceneOtherConnection(t *testing.T) func(*testing.T) {
	one := []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}
	o := startOdd(t, relay.Config{DeadAfter: oddDead, MaxConnectionsPerPeer: 2}, one, func(o *odd, c *enginetest.RawConn) {
		if c.N > 0 {
			enginetest.AnswerAll("x")(c)
			return
		}
		var pings int64
		for o.frame(c, &pings) != nil { // reading is all it does
		}
	})
	ctx, cancel := context.WithTimeout(pinned(context.Background()), enginetest.Patience)
	t.Cleanup(cancel)
	open := untilEnd(enginetest.Open(t, ctx, o.cc))
	enginetest.Eventually(t, "the first connection is full", func() bool { return o.calls.Load() == 1 })
	_, err := enginetest.Unary(ctx, o.cc, "x")
	enginetest.Must(t, err)
	var failed, backedOff, asked int
	done := make(chan struct{})
	go func() {
		defer close(done)
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for since := time.Now(); time.Since(since) < enginetest.Patience; <-pace.C {
			if _, err := enginetest.Unary(ctx, o.cc, "x"); err != nil {
				failed++
			}
			st := o.stats()
			if st.Silent == 0 {
				if asked > 0 {
					return // it was cut
				}
				continue
			}
			asked++
			if p := o.peer(); p != nil && p.BackedOff() && o.stats().Silent == 1 {
				backedOff++
			}
		}
	}()
	return func(t *testing.T) {
		<-done
		t.Logf("%d looks while one of two connections was silent", asked)
		if failed > 0 || backedOff > 0 || asked < 10 {
			t.Errorf("%d looks, in %d the peer was backed off; %d calls failed", asked, backedOff, failed)
		}
		if e := enginetest.Receive(t, open); status.Code(e.err) != codes.Unavailable {
			t.Errorf("the call on the silent connection: %v", e.err)
		}
	}
}

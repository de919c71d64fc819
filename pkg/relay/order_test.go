package relay

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// A deadline that fires just when the response begins must not send its trailers in front of the response headers.
func TestTrailersNeverComeBeforeTheHeaders(t *testing.T) {
	enginetest.CheckLeaks(t)
	subject, made := white(Config{})
	has, answer := make(chan struct{}, 1), make(chan struct{})
	raw := enginetest.StartRawPeer(t, nil, func(c *enginetest.RawConn) {
		if h := c.Next(); h != nil {
			enginetest.Offer(has, struct{}{})
			<-answer
			c.Respond(h.StreamID)
			c.Drain()
		}
	})
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("a", raw.Address))
	c := enginetest.DialRaw(t, s.Address)
	c.Request(1, false, "grpc-timeout", "300m")
	enginetest.Receive(t, has)
	st := clientStream(t, *made, 1)
	st.mu.Lock()
	pe := st.up.conn.link.p
	st.mu.Unlock()
	pe.mu.Lock() // somebody is in the way when the reader notes that the peer is well
	close(answer)
	h := c.Next()
	pe.mu.Unlock()
	if h == nil || h.PseudoValue("status") != "200" {
		t.Errorf("the first block that the client gets is %v", h)
	}
	for h != nil && !h.StreamEnded() {
		h = c.Next()
	}
	if h == nil || !slices.Equal(enginetest.Values(h, "grpc-status"), []string{"4"}) {
		t.Errorf("the last block that the client gets is %v", h)
	}
}

// A place on a connection that is taken and not needed goes to a call that has seen it taken.
func TestPlaceGivenBackIsTaken(t *testing.T) {
	enginetest.CheckLeaks(t)
	subject, made := white(Config{MaxConnectionsPerPeer: 1})
	raw := enginetest.StartRawPeer(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}, enginetest.AnswerAll("x"))
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("a", raw.Address))
	e := *made
	c := enginetest.DialRaw(t, s.Address)
	c.Request(1, true)
	c.Result()
	s.Quiet()
	pe := e.pool.peer(s.Router.Known()[0])
	l := pe.reserve() // for a call that ends before it is begun
	c.Request(3, true)
	s.AwaitWaiting(1)
	began := time.Now()
	pe.give(&stream{e: e, over: true}, l, nil)
	if code, why := c.Result(); code != "0" {
		t.Errorf("the call that waited ended with %s %q", code, why)
	}
	if took := time.Since(began); took >= tick {
		t.Errorf("a call waited %v beside a free place, as long as until the janitor came", took)
	}
}

// A call that has found no connection just before one came up opens no second one.
func TestNoSecondConnectionBesideOneWithRoom(t *testing.T) {
	enginetest.CheckLeaks(t)
	subject, made := white(Config{})
	raw := enginetest.StartRawPeer(t, nil, enginetest.AnswerAll("x"))
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("a", raw.Address))
	c := enginetest.DialRaw(t, s.Address)
	c.Request(1, true)
	c.Result()
	pe := (*made).pool.peer(s.Router.Known()[0])
	pe.mu.Lock()
	dial, v := pe.decide(true, pe.e.clock())
	pe.mu.Unlock()
	if dial || v != taken {
		t.Errorf("dial %v, verdict %v", dial, v)
	}
}

// A peer that the pool forgets while a call is on its way to it is not used: nobody would look after its connections.
func TestForgottenPeerIsNotUsed(t *testing.T) {
	enginetest.CheckLeaks(t)
	subject, made := white(Config{IdleTimeout: time.Millisecond})
	raw := enginetest.StartRawPeer(t, nil, enginetest.AnswerAll("x"))
	s := subject.Start(t, enginetest.Setup{})
	e := *made
	s.Set(enginetest.Instance("a", raw.Address))
	of := s.Router.Known()[0]
	s.Set() // nobody is likely to be called any more
	enginetest.Eventually(t, "the peer is forgotten", func() bool { _, ok := e.pool.peers.Load(of); return !ok })
	pe := e.pool.peer(of) // a call has found it
	enginetest.Eventually(t, "it is forgotten once more", func() bool {
		e.pool.sweep(pe, e.clock(), false)
		now, ok := e.pool.peers.Load(of)
		return !ok || now != any(pe)
	})
	if v := pe.take(&stream{e: e, over: true}, nil); v != swept {
		t.Errorf("the call was given to it all the same: %v", v)
	}
	if got := e.pool.locked(of); got == pe {
		t.Error("the pool gives a peer that it has forgotten")
	} else {
		got.mu.Unlock()
	}
}

// While a connection's window is shut, calls that have ended do not pile up among those that wait for it.
func TestEndedCallsDoNotWaitForAWindow(t *testing.T) {
	enginetest.CheckLeaks(t)
	subject, made := white(Config{})
	raw := enginetest.StartRawPeer(t, nil, (*enginetest.RawConn).Drain) // it gives no credit
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("a", raw.Address))
	c := enginetest.DialRaw(t, s.Address)
	go discard(c)
	c.Request(1, false)
	for range 4 {
		enginetest.Must(t, c.Framer.WriteData(1, false, make([]byte, 16380)))
	}
	const calls = 3000
	for id := uint32(3); id < 2*calls; id += 2 {
		c.Request(id, false)
		enginetest.Must(t, c.Framer.WriteData(id, false, []byte("xxxxx")))
		enginetest.Must(t, c.Framer.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	enginetest.Eventually(t, "all but one have ended, and do not wait", func() bool {
		came, waits := false, 0
		for _, c := range (*made).all(func(*conn) bool { return true }) {
			c.mu.Lock()
			waits += len(c.blocked)
			came = came || c.lastOpened == 2*calls-1
			c.mu.Unlock()
		}
		return came && (*made).inFlight.Load() == 1 && waits < 100
	})
}

// discard reads what comes, and answers nothing, so that the test's own goroutine can write.
func discard(c *enginetest.RawConn) {
	for {
		if _, err := c.Framer.ReadFrame(); err != nil {
			return
		}
	}
}

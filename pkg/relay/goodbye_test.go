package relay_test

import (
	"context"
	"math"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// frame gives a client's next frame as it is: nothing is answered. Nil means that the connection is gone.
func frame(c *enginetest.RawConn) http2.Frame {
	f, err := c.Framer.ReadFrame()
	if err != nil {
		return nil
	}
	return f
}

// next gives the next frame of that type, past SETTINGS, WINDOW_UPDATE and whatever not says.
func next[F http2.Frame](t *testing.T, c *enginetest.RawConn) (want F) {
	t.Helper()
	for {
		switch f := frame(c).(type) {
		case nil:
			t.Fatalf("the connection is gone, want %T", want)
		case F:
			return f
		case *http2.SettingsFrame, *http2.WindowUpdateFrame:
		default:
			t.Fatalf("got %v, want %T", f, want)
		}
	}
}

// drain begins to drain a sidecar.
func drain(s *enginetest.Sidecar, ctx context.Context) <-chan error {
	drained := make(chan error, 1)
	go func() { drained <- s.Engine.Drain(ctx) }()
	return drained
}

// wantGoAway awaits a GOAWAY without an error that names this last stream.
func wantGoAway(t *testing.T, c *enginetest.RawConn, last uint32) {
	t.Helper()
	if g := next[*http2.GoAwayFrame](t, c); g.ErrCode != http2.ErrCodeNo || g.LastStreamID != last {
		t.Errorf("got GOAWAY(%v) with the last stream %d, want NO_ERROR and %d", g.ErrCode, g.LastStreamID, last)
	}
}

// hungUp waits until the engine has ended its side, and ends the client's.
func hungUp(t *testing.T, c *enginetest.RawConn) {
	t.Helper()
	if f := frame(c); f != nil {
		t.Errorf("got %v, want the end of the connection", f)
	}
	enginetest.Must(t, c.Close())
}

// The goodbye of RFC 9113 §6.8: a first GOAWAY warns, and what the client opens before it has answered the PING behind it is served. The
// second names the last of those; what comes above it is ignored, whatever it is. The connection ends with its last call.
func TestGoodbyeInTwoSteps(t *testing.T) {
	release := make(chan struct{})
	s, p, client := staged(t, relay.Config{}, 1, once(func(g *got) act {
		g.Wait(release)
		return ok(g)
	}))
	client.Request(1, false)
	p.await(1, nil)
	next[*http2.SettingsFrame](t, client)
	drained := drain(s, enginetest.Context(t))
	wantGoAway(t, client, math.MaxInt32)
	warned := next[*http2.PingFrame](t, client)
	if warned.IsAck() {
		t.Fatal("the PING is an answer")
	}
	for id := uint32(3); id <= 5; id += 2 { // on their way when the client heard of it
		client.Request(id, false)
		send(t, client, id, random(100), false)
	}
	p.await(3, func(g *got) bool { return len(g.body) == 100 })
	enginetest.Must(t, client.Framer.WritePing(true, warned.Data))
	wantGoAway(t, client, 5)
	// Above the last stream: all that a call may have, and what is wrong on a closed stream.
	client.Request(7, false)
	send(t, client, 7, random(40000), false)
	client.Headers(7, true, "a", "trailer")
	client.Request(9, false)
	send(t, client, 9, random(100), true)
	enginetest.Must(t, client.Framer.WriteWindowUpdate(9, 100))
	client.Request(11, true)
	enginetest.Must(t, client.Framer.WriteRSTStream(11, http2.ErrCodeCancel))
	if came := ping(t, client); len(came) > 0 {
		t.Errorf("%v came about streams above the last", came)
	}
	for id := uint32(1); id <= 5; id += 2 {
		send(t, client, id, nil, true)
	}
	close(release)
	served := map[uint32]bool{}
	for len(served) < 3 {
		f := frame(client)
		if f == nil {
			t.Fatalf("the connection ended before its calls: %v have", served)
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok && h.StreamEnded() {
			served[h.StreamID] = true
		}
	}
	began := time.Now()
	hungUp(t, client)
	enginetest.Must(t, enginetest.Receive(t, drained))
	t.Logf("Drain ended %v after the last call", time.Since(began))
	if n := len(p.calls()); n != 3 {
		t.Errorf("the peer had %d calls, want 3", n)
	}
	s.Quiet()
}

// A client that does not answer the PING is told its last stream all the same, after a second. It keeps Drain no longer than that when
// it has no calls.
func TestGoodbyeWithoutAnAnswer(t *testing.T) {
	s, p, client := staged(t, relay.Config{}, 1, once(ok))
	client.Request(1, false)
	p.await(1, nil)
	next[*http2.SettingsFrame](t, client)
	began := time.Now()
	drained := drain(s, enginetest.Context(t))
	wantGoAway(t, client, math.MaxInt32)
	next[*http2.PingFrame](t, client)
	client.Request(3, false)
	p.await(2, nil)
	wantGoAway(t, client, 3)
	took := time.Since(began)
	if took < time.Second || took > 5*time.Second {
		t.Errorf("the second GOAWAY came after %v, want about a second", took)
	}
	t.Logf("the second GOAWAY came after %v", took)
	for id := uint32(1); id <= 3; id += 2 {
		send(t, client, id, nil, true)
		if code, _ := client.Result(); code != "0" {
			t.Errorf("stream %d ended with %s", id, code)
		}
	}
	client.Drain()
	enginetest.Must(t, client.Close())
	enginetest.Must(t, enginetest.Receive(t, drained))
	s.Quiet()
}

// A client that has no calls, and neither answers nor hangs up, holds Drain until its context ends, at most; nothing was lost then.
func TestGoodbyeIsBoundByItsContext(t *testing.T) {
	s, _, client := staged(t, relay.Config{}, 1, once(ok))
	ask(client, 1, enginetest.Method)
	if code, _ := client.Result(); code != "0" {
		t.Errorf("the call ended with %s", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	enginetest.Must(t, s.Engine.Drain(ctx))
	t.Logf("Drain, bound to 50 ms, took %v", time.Since(began))
	if ctx.Err() == nil {
		t.Error("Drain ended before the client had hung up")
	}
}

// Drain ends when calls do, not at the next full second: here the client answers and hangs up as it is told.
func TestDrainEndsAtOnce(t *testing.T) {
	s, p, client := staged(t, relay.Config{}, 1, once(ok))
	client.Request(1, false)
	p.await(1, nil)
	drained := drain(s, enginetest.Context(t))
	next[*http2.SettingsFrame](t, client)
	wantGoAway(t, client, math.MaxInt32)
	enginetest.Must(t, client.Framer.WritePing(true, next[*http2.PingFrame](t, client).Data))
	wantGoAway(t, client, 1)
	select {
	case err := <-drained:
		t.Fatalf("Drain ended with %v before the call", err)
	default:
	}
	send(t, client, 1, nil, true)
	if code, _ := client.Result(); code != "0" {
		t.Errorf("the call ended with %s", code)
	}
	ended := time.Now()
	hungUp(t, client)
	enginetest.Must(t, enginetest.Receive(t, drained))
	took := time.Since(ended)
	t.Logf("Drain ended %v after the call", took)
	if took > 900*time.Millisecond {
		t.Errorf("Drain ended %v after the call", took)
	}
	s.Quiet()
}

// A client that has connected and said nothing yet when the sidecar begins to end hears SETTINGS first, as every server begins (RFC 9113
// §3.4), and then the goodbye; a call that it had on its way is served.
func TestGoodbyeToANewConnection(t *testing.T) {
	s, _, other := staged(t, relay.Config{}, 1, once(ok))
	enginetest.Must(t, other.Close())
	enginetest.Eventually(t, "the engine has no connection", func() bool { return s.Engine.Stats().Clients == 0 })
	nc, err := net.Dial("tcp", s.Address)
	enginetest.Must(t, err)
	enginetest.Eventually(t, "the engine has the connection", func() bool { return s.Engine.Stats().Clients == 1 })
	drained := drain(s, enginetest.Context(t))
	enginetest.Must(t, nc.SetDeadline(time.Now().Add(enginetest.Patience)))
	if f, err := http2.NewFramer(nil, nc).ReadFrame(); err != nil || f.Header().Type != http2.FrameSettings {
		t.Errorf("the first frame is %v (%v), want SETTINGS", f, err)
	}
	client := enginetest.RawClient(t, nc)
	wantGoAway(t, client, math.MaxInt32)
	warned := next[*http2.PingFrame](t, client)
	ask(client, 1, enginetest.Method)
	enginetest.Must(t, client.Framer.WritePing(true, warned.Data))
	if code, _ := client.Result(); code != "0" {
		t.Errorf("the call ended with %s", code)
	}
	client.Drain()
	enginetest.Must(t, client.Close())
	enginetest.Must(t, enginetest.Receive(t, drained))
	s.Quiet()
}

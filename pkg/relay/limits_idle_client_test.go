package relay_test

import (
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

var shortIdle = relay.Config{Limits: relay.Limits{ClientIdleTimeout: 300 * time.Millisecond}}

// A client without calls is told to go in two steps: what it sends before it has heard of the first is served.
func TestClientIdleTimeout(t *testing.T) {
	b := newLimitBed(t, shortIdle, nil)
	c := enginetest.DialRaw(t, b.Address)
	b.echoes(c, 1)
	began := time.Now()
	if g := toldToGo(t, c, http2.ErrCodeNo, "client_idle_timeout", "300ms"); g.LastStreamID != 1<<31-1 {
		t.Errorf("the first GOAWAY has the last stream %d", g.LastStreamID)
	}
	t.Logf("told after %v", time.Since(began))
	request(c, 3, false, "echo") // the PING behind the GOAWAY is not answered yet
	if g := toldToGo(t, c, http2.ErrCodeNo, "client_idle_timeout", "300ms"); g.LastStreamID != 3 {
		t.Errorf("the second GOAWAY has the last stream %d, want 3", g.LastStreamID)
	}
	c.Message(3, 0, "x")
	enginetest.Must(t, c.Framer.WriteData(3, true, nil))
	b.ends(c, 3, "0", "", "")
	if f := c.Frame(); f != nil {
		t.Errorf("%v came after the last call", f)
	}
	enginetest.Eventually(t, "the second client alone is left", func() bool { return b.Engine.Stats().Clients == 1 })
	b.over("client_idle_timeout", 1)
}

// A client that does not answer is told all the same.
func TestIdleClientThatDoesNotAnswer(t *testing.T) {
	b := newLimitBed(t, shortIdle, nil)
	c := enginetest.DialRaw(t, b.Address)
	var last []uint32
	for {
		f, err := c.Framer.ReadFrame()
		if err != nil {
			break
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			last = append(last, g.LastStreamID)
		}
	}
	if len(last) != 2 || last[0] != 1<<31-1 || last[1] != 0 {
		t.Errorf("GOAWAYs with the last streams %v came", last)
	}
	b.over("client_idle_timeout", 1)
}

// A connection with a call that says nothing is not idle.
func TestClientWithACallIsNotIdle(t *testing.T) {
	b := newLimitBed(t, shortIdle, nil)
	c := enginetest.DialRaw(t, b.Address)
	request(c, 1, false, "echo")
	idle := enginetest.DialRaw(t, b.Address)
	toldToGo(t, idle, http2.ErrCodeNo, "client_idle_timeout", "300ms")
	enginetest.Must(t, c.Framer.WritePing(false, [8]byte{1}))
	for {
		f, err := c.Framer.ReadFrame()
		enginetest.Must(t, err)
		if g, ok := f.(*http2.GoAwayFrame); ok {
			t.Fatalf("told to go: %s", g.DebugData())
		}
		if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
			break
		}
	}
	c.Message(1, 0, "x")
	enginetest.Must(t, c.Framer.WriteData(1, true, nil))
	b.ends(c, 1, "0", "", "")
	b.over("client_idle_timeout", 1)
}

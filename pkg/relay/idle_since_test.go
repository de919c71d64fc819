package relay

import (
	"net"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// How long a client has had no calls is counted from when the janitor first sees it without, and anew after every call.
func TestIdleTimeBeginsAnewAfterACall(t *testing.T) {
	enginetest.CheckLeaks(t)
	subject, made := white(Config{})
	subject.Start(t, enginetest.Setup{})
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	c := newConn(*made, near) // the engine's janitor does not know it
	want := func(now, idle int64) {
		t.Helper()
		if got := c.idleFor(now); got != idle {
			t.Errorf("at %d it is idle for %d, want %d", now, got, idle)
		}
	}
	want(1000, 0)
	want(1500, 500)
	h := &half{conn: c, id: 1}
	c.mu.Lock()
	c.streams.put(h)
	c.mu.Unlock()
	want(2000, 0) // it has a call
	c.mu.Lock()
	h.forget()
	c.mu.Unlock()
	want(5000, 0)
	want(5200, 200)
	c.leaving = true
	want(9000, 0) // it is told to go once
}

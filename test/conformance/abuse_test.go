package conformance_test

import (
	"runtime"
	"slices"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

// stallTime is how long a flood goes on against a proxy that no longer reads.
const stallTime = 300 * time.Millisecond

// memoryBound is how much more memory may be in use after an abuse, while its connection still stands. The floods send more. Memory
// is that of this process: engine, scripted peers and clients.
const memoryBound = 16 << 20

// abused runs an abuse and checks that a second client's open call and its new ones do not suffer and that memory stays in bounds.
func (e *env) abused(bound int64, f func()) {
	second := e.dial(h2script.Options{Name: "second client"})
	c, p := e.callOn(second)
	e.works(second)
	before := inUse()
	f()
	grown := inUse() - before
	e.Logf("%d KiB more in use", grown>>10)
	e.check(grown < bound, "memory grows by more than %d MiB", bound>>20)
	e.finish(c, p)
	e.works(second)
	e.works(e.dial(h2script.Options{Name: "new client"}))
}

// inUse gives the bytes of heap and stacks in use.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// ends checks that the proxy ends a connection.
func (e *env) ends(c *h2script.Conn) {
	_, ok := c.Ended(h2script.Patience)
	e.check(ok, "the connection stays")
}

// endsBeforePing is ends for a connection on which frames are still possible: a PING that is answered shows that it stays.
func (e *env) endsBeforePing(c *h2script.Conn) {
	c.SendPing(77)
	for deadline := time.Now().Add(h2script.Patience); ; {
		if _, ok := c.Ended(5 * time.Millisecond); ok {
			return
		}
		answered := slices.ContainsFunc(c.Events(), func(ev h2script.Event) bool {
			return ev.Type == http2.FramePing && ev.Ack() && ev.Data[0] == 77
		})
		e.check(!answered && time.Now().Before(deadline), "the connection stays")
	}
}

// resets checks that a call ends with RST_STREAM, or with its connection.
func (e *env) resets(c *h2script.Stream) {
	o := c.Outcome()
	e.check(o.Reset || o.Lost || o.Ended && o.Status() != "0", "the call ends with %s", &o)
}

package conformance_test

import (
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var windowCases = []testCase{
	{Name: "window-overflow-stream", Line: "a stream's window that WINDOW_UPDATE overflows ends that call, and no other",
		Proxied: true, Run: overflowStream},
	{Name: "window-overflow-connection", Line: "a connection's window that WINDOW_UPDATE overflows ends the connection",
		Proxied: true, Run: func(e *env) {
			e.connectionError(func(c *h2script.Conn) {
				c.Credit(0, 1<<31-1)
				c.Credit(0, 1<<31-1)
			})
		}},
	{Name: "window-overflow-settings", Line: "a stream's window that SETTINGS overflow ends the connection",
		Proxied: true, Run: overflowSettings},
	{Name: "window-invalid-settings", Line: "an initial window over 2^31-1 ends the connection",
		Proxied: true, Run: func(e *env) {
			e.connectionError(func(c *h2script.Conn) { c.SendSettings(initialWindow(1 << 31)) })
		}},
	{Name: "window-overrun", Line: "DATA beyond our window ends its stream or connection", Proxied: true, Run: overrun},
}

func overflowStream(e *env) {
	e.abused(memoryBound, func() {
		cc := e.dial(h2script.Options{})
		good, p := e.callOn(cc)
		c, q := e.callOn(cc)
		c.Credit(1<<31 - 1)
		c.Credit(1<<31 - 1)
		cc.Ping(77)
		o := c.OutcomeWithin(time.Second)
		e.check(o.Reset && o.Code == http2.ErrCodeFlowControl, "that call ends with %s", &o)
		q.Reset()
		e.finish(good, p)
	})
}

func overflowSettings(e *env) {
	e.abused(memoryBound, func() {
		c, _ := e.callOn(e.dial(h2script.Options{}))
		c.Credit(1 << 30)
		c.Conn.SendSettings(initialWindow(1<<31 - 1))
		e.endsBeforePing(c.Conn)
	})
}

// overrun sends four times what any window allows, to a peer that gives no credit.
func overrun(e *env) {
	e.abused(memoryBound, func() {
		c, _ := e.callOn(e.dial(h2script.Options{}))
		frame := h2script.FrameBytes(http2.FrameData, 0, c.ID, messages(2, 8000))
		windows := c.Conn.Window(c.ID) + c.Conn.Window(0)
		c.Conn.Flood(frame, int(4*windows)/len(frame), stallTime)
		e.resets(c)
	})
}

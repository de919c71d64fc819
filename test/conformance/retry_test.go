package conformance_test

import (
	"bytes"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var retryCases = []testCase{
	{Name: "goaway", Line: "GOAWAY: calls above the last stream id go to another peer, unseen, with their DATA; calls below it finish",
		Proxied: true, Run: goAway},
	{Name: "goaway-no-error", Line: "GOAWAY(NO_ERROR) with the highest id: open calls finish, new ones go elsewhere",
		Proxied: true, Run: goAwayGraceful},
	{Name: "refused", Line: "REFUSED_STREAM: the call goes to another peer, unseen, with its DATA",
		Proxied: true, Run: refused},
	{Name: "refused-twice", Line: "a call that a second peer has not processed either goes on to a third",
		Proxied: true, Run: refusedTwice},
	{Name: "refused-large", Line: "an unprocessed call with more DATA than the proxy keeps is UNAVAILABLE, not REFUSED_STREAM",
		Proxied: true, Run: refusedLarge},
	{Name: "no-retry-lost", Line: "a call whose peer was lost is not sent again", Proxied: true, Run: func(e *env) {
		e.notRetried(func(p *h2script.Stream) { p.Conn.CloseHard() })
	}},
	{Name: "no-retry-reset", Line: "a call that its peer reset is not sent again", Proxied: true, Run: func(e *env) {
		e.notRetried(func(p *h2script.Stream) { p.SendReset(http2.ErrCodeInternal) })
	}},
	{Name: "no-retry-status", Line: "a call that was answered UNAVAILABLE is not sent again", Proxied: true, Run: func(e *env) {
		e.notRetried(func(p *h2script.Stream) {
			p.SendHeaders(true, h2script.Response(h2script.Fields("grpc-status", "14")...)...)
		})
	}},
}

// moved awaits a call's second arrival, at another peer, and checks that it is as the first.
func (e *env) moved(c, p *h2script.Stream, data []byte) *h2script.Stream {
	q := e.arrival(c, h2script.Values(p.Request, ":path")[0])
	e.check(q.Conn != p.Conn, "the call comes back to the same connection")
	e.check(h2script.Values(q.Request, "grpc-previous-rpc-attempts") == nil, "grpc-previous-rpc-attempts grows")
	e.check(bytes.Equal(q.Bytes(len(data)), data), "DATA is replayed changed")
	return q
}

func goAway(e *env) {
	e.peer(h2script.Options{})
	below, pBelow := e.call()
	above, pAbove := e.call()
	e.check(pBelow.Conn == pAbove.Conn, "two calls to one peer take two connections")
	m := h2script.Message(0, random(30000))
	above.Upload(m, false, h2script.Patience)
	pAbove.Bytes(len(m))
	e.peer(h2script.Options{})
	pAbove.Conn.GoAway(pBelow.ID, http2.ErrCodeNo)
	e.finish(above, e.moved(above, pAbove, m))
	e.finish(below, pBelow)
}

func goAwayGraceful(e *env) {
	e.peer(h2script.Options{})
	open, p := e.call()
	p.Conn.GoAway(1<<31-1, http2.ErrCodeNo)
	p.Conn.SendPing(1)
	p.Conn.Await("PING ACK", func(ev *h2script.Event) bool { return ev.Type == http2.FramePing && ev.Ack() })
	e.eventually(func() bool {
		c, q := e.call()
		e.finish(c, q)
		return q.Conn != p.Conn
	}, "new calls still go to the connection")
	e.finish(open, p)
}

func refused(e *env) {
	e.peer(h2script.Options{})
	c, p := e.call()
	m := h2script.Message(0, random(30000))
	c.Upload(m, true, h2script.Patience)
	p.Bytes(len(m))
	e.peer(h2script.Options{})
	p.SendReset(http2.ErrCodeRefusedStream)
	q := e.moved(c, p, m)
	q.HalfClose()
	e.finish(c, q)
}

func refusedTwice(e *env) {
	for range 3 {
		e.peer(h2script.Options{})
	}
	c, p := e.call()
	for range 2 {
		p.SendReset(http2.ErrCodeRefusedStream)
		p = e.moved(c, p, nil)
	}
	e.finish(c, p)
}

func refusedLarge(e *env) {
	e.peer(h2script.Options{Credit: h2script.CreditAll})
	c, p := e.call()
	var data []byte
	for range 64 {
		data = append(data, h2script.Message(0, random(16<<10))...)
	}
	sent := c.StartUpload(data, false)
	p.Bytes(len(data))
	e.check(sent() == len(data), "the upload stalls")
	e.peer(h2script.Options{})
	p.SendReset(http2.ErrCodeRefusedStream)
	o := c.Outcome()
	e.check(o.Status() == "14", "the call ends with %s", &o)
}

func (e *env) notRetried(end func(p *h2script.Stream)) {
	e.peer(h2script.Options{})
	e.peer(h2script.Options{})
	path := e.path()
	c := e.client().OpenEnded(h2script.Request(path))
	end(e.arrival(c, path))
	o := c.Outcome()
	e.check(o.Ended && o.Status() != "0" || o.Reset, "the call ends with %s", &o)
	e.check(e.requests.Take(path, 50*time.Millisecond) == nil, "it is sent again")
}

package conformance_test

import (
	"bytes"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var settingsCases = []testCase{
	{Name: "stream-limit", Line: "a peer's stream limit holds: calls wait or take another connection, none fails",
		Proxied: true, Run: streamLimit},
	{Name: "stream-limit-later", Line: "a stream limit that the peer lowers later holds", Proxied: true, Run: streamLimitLater},
	{Name: "reset-counts-once", Line: "a reset that crosses the response counts its stream once",
		Proxied: true, Run: resetCountsOnce},
	{Name: "window-negative-request", Line: "a peer's window that SETTINGS make negative holds the client's DATA exactly",
		Run: func(e *env) { e.negativeWindow(true) }},
	{Name: "window-negative-response", Line: "a client's window that SETTINGS make negative holds the peer's DATA exactly",
		Run: func(e *env) { e.negativeWindow(false) }},
	{Name: "window-zero-first", Line: "an initial window of 0 is waited for, both sides", Run: zeroWindow},
	{Name: "table-size-peer", Line: "header table size 0 of a peer holds from its ACK on", Run: tableSizePeer},
	{Name: "table-size-client", Line: "header table size 0 of a client holds from its ACK on", Run: tableSizeClient},
	{Name: "max-frame", Line: "each side's own max frame size holds", Run: maxFrame},
	{Name: "settings-ack", Line: "each SETTINGS is acknowledged, in order, on both sides", Run: settingsAck},
}

func maxStreams(n uint32) http2.Setting {
	return http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n}
}

func initialWindow(n uint32) http2.Setting {
	return http2.Setting{ID: http2.SettingInitialWindowSize, Val: n}
}

var tableSizeZero = http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}

func streamLimit(e *env) {
	e.peer(h2script.Options{Settings: []http2.Setting{maxStreams(1)}})
	e.finishAllWithin(1, 6)
}

// finishAllWithin opens so many calls at once and finishes each when it has come. No connection may have had more than limit.
func (e *env) finishAllWithin(limit, calls int) {
	type open struct {
		c    *h2script.Stream
		path string
	}
	var waiting []open
	for range calls {
		path := e.path()
		waiting = append(waiting, open{e.client().Open(h2script.Request(path)), path})
	}
	for deadline := time.Now().Add(h2script.Patience); len(waiting) > 0; {
		e.check(time.Now().Before(deadline), "a call hangs")
		w := waiting[0]
		waiting = waiting[1:]
		p := e.requests.Take(w.path, 5*time.Millisecond)
		if p == nil {
			o := w.c.OutcomeWithin(0)
			e.check(!o.Ended && !o.Reset && !o.Lost, "a call that should wait ends with %s", &o)
			waiting = append(waiting, w)
			continue
		}
		e.finish(w.c, p)
	}
	for _, s := range e.peers {
		for _, conn := range s.Conns() {
			e.check(conn.Peak() <= limit, "a connection gets more streams than its limit")
		}
	}
}

func streamLimitLater(e *env) {
	first, p := e.call()
	p.Conn.Settings(maxStreams(1))
	path := e.path()
	second := e.client().Open(h2script.Request(path))
	q := e.requests.Take(path, 200*time.Millisecond)
	e.check(q == nil || q.Conn != p.Conn, "the connection gets another stream")
	e.finish(first, p)
	if first.SendReset(http2.ErrCodeCancel); q == nil {
		q = e.arrival(second, path)
	}
	e.finish(second, q)
}

func resetCountsOnce(e *env) {
	e.peer(h2script.Options{Settings: []http2.Setting{maxStreams(1)}})
	for range 20 {
		c, p := e.call()
		p.Respond("crossing")
		c.SendReset(http2.ErrCodeCancel)
	}
	e.finishAllWithin(1, 2)
}

func (e *env) negativeWindow(request bool) {
	from, to := e.call()
	if !request {
		from, to = to, from
		from.SendHeaders(false, h2script.Response()...)
		to.Headers()
	}
	first, second := h2script.Message(0, random(40000)), h2script.Message(0, random(15000))
	from.Upload(first, false, h2script.Patience)
	to.Bytes(len(first))
	to.Conn.Settings(initialWindow(10000)) // 65535-40005-55535: the stream's window is -30005
	sent := from.StartUpload(second, false)
	to.Credit(30005) // now 0
	if ev, came := to.Came(150 * time.Millisecond); came {
		e.Fatalf("%s comes beyond the window", &ev)
	}
	to.Credit(4000)
	e.check(bytes.Equal(to.Bytes(4000), second[:4000]), "DATA arrives changed")
	to.Conn.Settings(initialWindow(65535)) // 55535 more
	e.check(bytes.Equal(to.Bytes(len(second)-4000), second[4000:]), "DATA arrives changed")
	e.check(sent() == len(second), "the upload stalls")
}

func zeroWindow(e *env) {
	zero := h2script.Options{Settings: []http2.Setting{initialWindow(0)}}
	e.peer(zero)
	c, p := e.callOn(e.dial(zero))
	m := h2script.Message(0, "waits for its window")
	for _, way := range []struct{ from, to *h2script.Stream }{{c, p}, {p, c}} {
		if way.from == p {
			p.SendHeaders(false, h2script.Response()...)
			c.Headers()
		}
		sent := way.from.StartUpload(m, false)
		way.to.Credit(3)
		e.check(bytes.Equal(way.to.Bytes(3), m[:3]), "DATA arrives changed")
		way.to.Credit(1000)
		e.check(bytes.Equal(way.to.Bytes(len(m)-3), m[3:]), "DATA arrives changed")
		e.check(sent() == len(m), "the upload stalls")
	}
}

// sameHeaders makes a few calls that a proxy would like to index.
func (e *env) sameHeaders() {
	fields := h2script.Fields("x-a", "value of a", "x-b", "value of b")
	for range 3 {
		request, headers, trailers := e.both(fields...)
		for _, f := range fields {
			e.check(len(h2script.Values(request, f.Name)) == 1 && len(h2script.Values(headers, f.Name)) == 1 &&
				len(h2script.Values(trailers, f.Name)) == 1, "a field is missing")
		}
	}
}

func tableSizePeer(e *env) {
	_, p := e.call()
	e.sameHeaders()
	p.Conn.Settings(tableSizeZero)
	e.sameHeaders()
}

func tableSizeClient(e *env) {
	e.sameHeaders()
	e.client().Settings(tableSizeZero)
	e.sameHeaders()
}

func maxFrame(e *env) {
	e.peer(h2script.Options{Credit: h2script.CreditAll, Settings: []http2.Setting{{ID: http2.SettingMaxFrameSize, Val: 1 << 20}}})
	c, p := e.callOn(e.dial(h2script.Options{Credit: h2script.CreditAll}))
	m := h2script.Message(0, random(300<<10))
	for _, way := range []struct{ from, to *h2script.Stream }{{c, p}, {p, c}} {
		if way.from == p {
			p.SendHeaders(false, h2script.Response()...)
			c.Headers()
		}
		sent := way.from.StartUpload(m, false)
		e.check(bytes.Equal(way.to.Bytes(len(m)), m), "DATA arrives changed")
		sent()
	}
}

func settingsAck(e *env) {
	c, p := e.call()
	for _, conn := range []*h2script.Conn{c.Conn, p.Conn} {
		for i := range uint32(5) {
			conn.SendSettings(initialWindow(70000+i), http2.Setting{ID: 0x99, Val: i})
		}
		conn.Settings()
	}
	e.finish(c, p)
}

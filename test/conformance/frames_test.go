package conformance_test

import (
	"bytes"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var frameCases = []testCase{
	{Name: "unknown-frames", Line: "PRIORITY and unknown frames, flags and settings are ignored, on both sides",
		Run: unknownFrames},
	{Name: "padding-request", Line: "padding of a client is accepted and credited", Run: func(e *env) { e.padding(true) }},
	{Name: "padding-response", Line: "padding of a peer is accepted and credited", Run: func(e *env) { e.padding(false) }},
	{Name: "padded-headers", Line: "HEADERS with padding and priority are read", Run: paddedHeaders},
	{Name: "pings-client", Line: "PINGs of a client are answered and never punished", Run: pingsClient},
	{Name: "pings-peer", Line: "PINGs of a peer are answered", Run: pingsPeer},
	{Name: "few-pings", Line: "a peer with a silent stream gets two PINGs at the most (seen for a second)", Run: fewPings},
}

func unknownFrames(e *env) {
	c, p := e.call()
	for _, s := range []*h2script.Stream{c, p} {
		s.Conn.Frame(0x42, 0xff, 0, []byte("unknown"))
		s.Conn.Frame(0x42, 0xff, s.ID, []byte("unknown"))
		s.Conn.Frame(http2.FramePriority, 0, s.ID, []byte{0, 0, 0, 0, 7})
		s.Conn.SendSettings(http2.Setting{ID: 0xfff0, Val: 1 << 31})
		s.Conn.Frame(http2.FramePing, 0xfe, 0, make([]byte, 8))
		s.Conn.Ping(1)
	}
	c.Conn.Frame(http2.FramePriority, 0, 1001, []byte{0, 0, 0, 1, 7}) // of an idle stream
	e.finish(c, p)
	e.works(c.Conn)
}

func (e *env) padding(request bool) {
	all := h2script.Options{Credit: h2script.CreditAll}
	e.peer(all)
	from, to := e.callOn(e.dial(all))
	if !request {
		from, to = to, from
		from.SendHeaders(false, h2script.Response()...)
		to.Headers()
	}
	const step, pad, frames = 10, 255, 300 // 266 bytes of window for each frame, 79,800 in all
	m := h2script.Message(0, random(step*frames-5))
	for i := range frames {
		e.check(from.AwaitWindow(step+pad+1), "padding is not credited")
		from.SendPadded(false, m[i*step:(i+1)*step], pad)
	}
	e.check(bytes.Equal(to.Bytes(len(m)), m), "DATA arrives changed")
}

func paddedHeaders(e *env) {
	path := e.path()
	c := e.client().NewStream()
	block := h2script.Encode(h2script.Request(path)...)
	const pad = 30
	payload := append([]byte{pad, 0, 0, 0, 0, 16}, block...)
	c.Conn.Frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream|http2.FlagHeadersPadded|http2.FlagHeadersPriority,
		c.ID, append(payload, make([]byte, pad)...))
	p := e.arrival(c, path)
	payload = append([]byte{pad}, h2script.Encode(h2script.Response(h2script.Fields("grpc-status", "0")...)...)...)
	p.Conn.Frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream|http2.FlagHeadersPadded, p.ID,
		append(payload, make([]byte, pad)...))
	o := c.Outcome()
	e.check(o.Status() == "0", "the call ends with %s", &o)
}

func pingsClient(e *env) {
	for i := range 50 { // without a call
		e.client().Ping(byte(i))
	}
	c, p := e.call()
	for i := range 50 {
		c.Conn.Ping(byte(100 + i))
	}
	e.finish(c, p)
}

func pingsPeer(e *env) {
	c, p := e.call()
	for i := range 50 {
		p.Conn.Ping(byte(i))
	}
	e.finish(c, p)
}

func fewPings(e *env) {
	c, p := e.call()
	if ev, came := p.Came(time.Second); came {
		e.Fatalf("the peer gets %s", &ev)
	}
	pings := 0
	for _, ev := range p.Conn.Events() {
		if ev.Type == http2.FramePing && !ev.Ack() {
			pings++
		}
	}
	e.check(pings <= 2, "the peer gets more")
	e.finish(c, p)
}

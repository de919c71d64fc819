package conformance_test

import (
	"bytes"
	"slices"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var timingCases = []testCase{
	{Name: "headers-at-once", Line: "response headers pass at once, before any message", Run: headersAtOnce},
	{Name: "headers-then-error", Line: "headers followed by an error stay two blocks and keep their metadata",
		Run: headersThenError},
	{Name: "trailers-only", Line: "Trailers-Only stays Trailers-Only", Run: trailersOnly},
	{Name: "ping-pong", Line: "each message passes when it comes, both ways in one stream", Run: pingPong},
	{Name: "partial-request", Line: "a part of a message passes to the peer when it comes",
		Run: func(e *env) { e.partial(true) }},
	{Name: "partial-response", Line: "a part of a message passes to the client when it comes",
		Run: func(e *env) { e.partial(false) }},
	{Name: "half-close", Line: "half-close passes when it comes; the response may come before or after it", Run: halfClose},
	{Name: "early-end", Line: "an early end by the server, followed by RST_STREAM(NO_ERROR), arrives whole", Run: earlyEnd},
	{Name: "empty-end", Line: "empty DATA with END_STREAM ends a stream", Run: emptyEnd},
	{Name: "split-data", Line: "DATA may be cut anywhere, or hold several messages", Run: splitData},
}

func headersAtOnce(e *env) {
	c, p := e.call()
	p.SendHeaders(false, h2script.Response(h2script.Fields("k", "v")...)...)
	e.check(slices.Equal(h2script.Values(c.Headers().Fields, "k"), []string{"v"}), "they lose metadata")
	p.SendMessage(false, "m")
	c.Bytes(6)
}

func headersThenError(e *env) {
	c, p := e.call()
	p.SendHeaders(false, h2script.Response(h2script.Fields("k", "v")...)...)
	p.SendHeaders(true, h2script.Fields("grpc-status", "9", "t", "u")...)
	o := c.Outcome()
	e.check(o.Status() == "9", "the call ends with %s", &o)
	e.check(len(o.Blocks) == 2, "they become Trailers-Only")
	e.check(slices.Equal(h2script.Values(o.Blocks[0], "k"), []string{"v"}), "the headers lose metadata")
	e.check(slices.Equal(h2script.Values(o.Blocks[1], "t"), []string{"u"}), "the trailers lose metadata")
}

func trailersOnly(e *env) {
	c, p := e.call()
	p.SendHeaders(true, h2script.Response(h2script.Fields("grpc-status", "9", "k", "v")...)...)
	o := c.Outcome()
	e.check(o.Status() == "9", "the call ends with %s", &o)
	e.check(len(o.Blocks) == 1, "it becomes headers and trailers")
	e.check(slices.Equal(h2script.Values(o.Blocks[0], "k"), []string{"v"}), "it loses metadata")
}

func pingPong(e *env) {
	c, p := e.call()
	p.SendHeaders(false, h2script.Response()...)
	c.Headers()
	for _, m := range []string{"one", "two", ""} {
		c.SendMessage(false, m)
		e.check(bytes.Equal(p.Bytes(5+len(m)), h2script.Message(0, m)), "a request message arrives changed")
		p.SendMessage(false, m)
		e.check(bytes.Equal(c.Bytes(5+len(m)), h2script.Message(0, m)), "a response message arrives changed")
	}
}

func (e *env) partial(request bool) {
	from, to := e.call()
	if !request {
		from, to = to, from
		from.SendHeaders(false, h2script.Response()...)
		to.Headers()
	}
	from.SendData(false, []byte{0, 0, 0, 0, 4, 'h', 'a'})
	e.check(string(to.Bytes(7)) == "\x00\x00\x00\x00\x04ha", "it arrives changed")
	from.SendData(false, []byte("lf"))
	e.check(string(to.Bytes(2)) == "lf", "the rest arrives changed")
}

func halfClose(e *env) {
	c, p := e.call()
	c.SendMessage(true, "m")
	p.Bytes(6)
	p.HalfClose()
	e.finish(c, p)

	c, p = e.call()
	p.SendHeaders(false, h2script.Response()...)
	p.SendMessage(false, "first")
	c.Headers()
	c.Bytes(10)
	c.SendData(true, nil)
	p.HalfClose()
	p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
	o := c.Outcome()
	e.check(o.Status() == "0", "the call ends with %s", &o)
}

func earlyEnd(e *env) {
	c, p := e.call()
	c.SendMessage(false, "more follows")
	p.SendHeaders(false, h2script.Response()...)
	p.SendMessage(false, "enough")
	p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
	p.SendReset(http2.ErrCodeNo)
	c.SendMessage(false, "that nobody wants")
	o := c.Outcome()
	e.check(o.Status() == "0", "the call ends with %s", &o)
	e.check(bytes.Equal(o.Body, h2script.Message(0, "enough")), "the response arrives changed")
	e.works(e.client())
}

func emptyEnd(e *env) {
	c, p := e.call()
	c.SendMessage(false, "m")
	c.SendData(false, nil)
	c.SendData(true, nil)
	p.Bytes(6)
	p.HalfClose()
	p.SendHeaders(false, h2script.Response()...)
	p.SendData(false, nil)
	p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
	o := c.Outcome()
	e.check(o.Status() == "0", "the call ends with %s", &o)
}

func splitData(e *env) {
	c, p := e.call()
	all := slices.Concat(h2script.Message(0, "first"), h2script.Message(0, ""), h2script.Message(0, "third"))
	for _, way := range []struct{ from, to *h2script.Stream }{{c, p}, {p, c}} {
		if way.from == p {
			p.SendHeaders(false, h2script.Response()...)
			c.Headers()
		}
		for _, b := range all {
			way.from.SendData(false, []byte{b})
		}
		e.check(bytes.Equal(way.to.Bytes(len(all)), all), "messages cut into bytes arrive changed")
		way.from.SendData(false, all)
		e.check(bytes.Equal(way.to.Bytes(len(all)), all), "messages in one frame arrive changed")
	}
}

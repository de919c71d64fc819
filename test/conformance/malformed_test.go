package conformance_test

import (
	"strings"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var malformedCases = []testCase{
	{Name: "content-length", Line: "a wrong `content-length` is a stream error, or does not reach the peer",
		Proxied: true, Run: contentLength},
	{Name: "pseudo-after-regular", Line: "a pseudo-header after a regular one is a stream error",
		Proxied: true, Run: func(e *env) {
			e.malformed(func(path string) []h2script.Field {
				r := h2script.Request(path)
				return append(r[1:], r[0])
			})
		}},
	{Name: "pseudo-twice", Line: "a pseudo-header that comes twice is a stream error", Proxied: true, Run: func(e *env) {
		e.malformed(func(path string) []h2script.Field {
			return append(h2script.Fields(":method", "POST"), h2script.Request(path)...)
		})
	}},
	{Name: "pseudo-unknown", Line: "an unknown pseudo-header is a stream error", Proxied: true, Run: func(e *env) {
		e.malformed(func(path string) []h2script.Field {
			return append(h2script.Fields(":unknown", "x"), h2script.Request(path)...)
		})
	}},
	{Name: "upper-case", Line: "an upper-case header name is a stream error", Proxied: true, Run: func(e *env) {
		e.malformed(func(path string) []h2script.Field { return h2script.Request(path, h2script.Fields("Upper", "x")...) })
	}},
	{Name: "crlf", Line: "CR or LF in a header value is a stream error", Proxied: true, Run: func(e *env) {
		e.malformed(func(path string) []h2script.Field {
			return h2script.Request(path, h2script.Fields("k", "a\r\nb: c")...)
		})
	}},
	{Name: "bad-hpack", Line: "a header block that does not decode ends its connection", Proxied: true, Run: func(e *env) {
		e.connectionError(func(c *h2script.Conn) {
			c.Frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1, []byte{0xff, 0xff, 0xff, 0xff, 0xff})
		})
	}},
	{Name: "idle-data", Line: "DATA on an idle stream ends its connection", Proxied: true, Run: func(e *env) {
		e.connectionError(func(c *h2script.Conn) { c.Frame(http2.FrameData, 0, 101, []byte("idle")) })
	}},
	{Name: "even-stream", Line: "a client's stream with an even id ends its connection", Proxied: true, Run: func(e *env) {
		e.connectionError(func(c *h2script.Conn) {
			c.Frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 2, h2script.Encode(h2script.Request("/x/Even")...))
		})
	}},
	{Name: "oversize-frame", Line: "a frame over the announced size ends its stream or connection",
		Proxied: true, Run: oversizeFrame},
	{Name: "interleaved-continuation", Line: "another frame within a header block ends its connection",
		Proxied: true, Run: func(e *env) {
			e.connectionError(func(c *h2script.Conn) {
				c.Frame(http2.FrameHeaders, 0, 1, h2script.Encode(h2script.Request("/x/Cut")...))
				c.Frame(http2.FrameData, 0, 1, []byte("between"))
			})
		}},
}

// contentLength sends 10 bytes where 5 are announced.
func contentLength(e *env) {
	e.abused(memoryBound, func() {
		path := e.path()
		c := e.dial(h2script.Options{}).Open(h2script.Request(path, h2script.Fields("content-length", "5")...))
		c.SendMessage(true, "12345")
		p, o := e.fate(c, path)
		switch {
		case p == nil:
			e.check(o.Reset || o.Ended && o.Status() != "0", "the call ends with %s", &o)
		case h2script.Values(p.Request, "content-length") == nil:
			e.finish(c, p)
		default:
			o = p.Outcome()
			e.check(o.Reset, "the peer gets it")
			e.resets(c)
		}
	})
}

// malformed opens a malformed call, which no peer may see, beside a good one on the same connection.
func (e *env) malformed(fields func(path string) []h2script.Field) {
	e.abused(memoryBound, func() {
		cc := e.dial(h2script.Options{})
		good, p := e.callOn(cc)
		path := e.path()
		c := cc.NewStream()
		c.SendHeaders(true, fields(path)...)
		o := c.Outcome()
		e.check(!o.Lost, "it ends its connection")
		e.check(o.Reset || o.Ended && o.Status() != "0", "the call ends with %s", &o)
		e.check(e.requests.Take(path, 0) == nil, "it reaches the peer")
		e.finish(good, p)
	})
}

// connectionError does something to a connection for which the proxy must end it.
func (e *env) connectionError(wrong func(c *h2script.Conn)) {
	e.abused(memoryBound, func() {
		c := e.dial(h2script.Options{})
		wrong(c)
		e.endsBeforePing(c)
	})
}

func oversizeFrame(e *env) {
	e.abused(memoryBound, func() {
		c, p := e.callOn(e.dial(h2script.Options{}))
		c.SendData(false, h2script.Message(0, strings.Repeat("x", 20000)))
		e.resets(c)
		p.Reset()
	})
}

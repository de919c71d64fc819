package conformance_test

import (
	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var faultCases = []testCase{
	{Name: "peer-zero-credit", Line: "a peer's zero WINDOW_UPDATE on a stream ends that call with a status, and no other",
		Proxied: true, Run: func(e *env) {
			e.peerFault(func(p *h2script.Stream) { p.Conn.Frame(http2.FrameWindowUpdate, 0, p.ID, make([]byte, 4)) })
		}},
	{Name: "peer-crlf", Line: "CR and LF in a peer's header end that call with a status, and no other",
		Proxied: true, Run: func(e *env) {
			e.peerFault(func(p *h2script.Stream) {
				p.SendHeaders(false, h2script.Response(h2script.Fields("k", "v\r\nset-cookie: x")...)...)
			})
		}},
	{Name: "peer-upper-case", Line: "an upper-case header name of a peer ends that call with a status, and no other",
		Proxied: true, Run: func(e *env) {
			e.peerFault(func(p *h2script.Stream) { p.SendHeaders(false, h2script.Response(h2script.Fields("Upper", "v")...)...) })
		}},
	{Name: "peer-data-first", Line: "DATA before HEADERS of a peer ends that call with a status, and no other",
		Proxied: true, Run: func(e *env) {
			e.peerFault(func(p *h2script.Stream) { p.SendMessage(false, "too early") })
		}},
	{Name: "peer-no-status", Line: "a response that ends without a status ends that call with one",
		Proxied: true, Run: func(e *env) {
			e.peerFault(func(p *h2script.Stream) {
				p.SendHeaders(false, h2script.Response()...)
				p.SendData(true, nil)
			})
		}},
	{Name: "peer-garbage", Line: "a peer that greets with garbage is passed over; another takes the call",
		Proxied: true, Run: func(e *env) {
			e.peerGreets("\x16\x03\x01 this is not HTTP/2, whatever else it may be")
		}},
	{Name: "peer-http1", Line: "a peer that answers with HTTP/1.1 is passed over; another takes the call",
		Proxied: true, Run: func(e *env) {
			e.peerGreets("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
		}},
	{Name: "peer-garbage-later", Line: "garbage on a peer's connection ends its calls with UNAVAILABLE and that connection only",
		Proxied: true, Run: garbageLater},
	{Name: "goaway-id", Line: "GOAWAY for a connection error names the last stream that was taken on",
		Proxied: true, Run: goAwayID},
	{Name: "client-zero-credit", Line: "a client's zero WINDOW_UPDATE on a stream ends that call, and no other",
		Proxied: true, Run: func(e *env) {
			e.clientFault(func(c *h2script.Stream) { c.Conn.Frame(http2.FrameWindowUpdate, 0, c.ID, make([]byte, 4)) })
		}},
	{Name: "client-late-frames", Line: "frames on a stream that was reset are ignored", Run: lateFrames},
}

// peerFault has two calls open on one connection. The peer does something wrong to the first.
func (e *env) peerFault(wrong func(p *h2script.Stream)) {
	e.peer(h2script.Options{})
	c1, p1 := e.call()
	c2, p2 := e.call()
	e.check(p1.Conn == p2.Conn, "two calls to one peer take two connections")
	wrong(p1)
	o := c1.Outcome()
	e.check(o.Ended && o.Status() != "" && o.Status() != "0", "that call ends with %s", &o)
	e.finish(c2, p2)
	e.works(e.client())
}

func (e *env) peerGreets(greeting string) {
	e.peer(h2script.Options{})
	e.peer(h2script.Options{Greeting: []byte(greeting)})
	for range 4 {
		e.works(e.client())
	}
}

func garbageLater(e *env) {
	e.peer(h2script.Options{})
	c, p := e.call()
	p.Conn.Raw([]byte("\xff\xff\xff garbage that is no frame at all, and long enough to be read as one"))
	o := c.Outcome()
	e.check(o.Status() == "14", "the call ends with %s", &o)
	e.works(e.client())
}

func goAwayID(e *env) {
	e.call()
	c, _ := e.call()
	c.Conn.Frame(http2.FramePing, 0, c.ID+2, make([]byte, 8)) // PING belongs on stream 0
	ev := c.Conn.Await("GOAWAY", func(ev *h2script.Event) bool { return ev.Type == http2.FrameGoAway })
	e.check(ev.Number == c.ID, "it names another")
}

// clientFault has two calls open on one connection. The client does something wrong to the first.
func (e *env) clientFault(wrong func(c *h2script.Stream)) {
	c1, p1 := e.call()
	c2, p2 := e.call()
	wrong(c1)
	o := c1.Outcome()
	e.check(o.Reset || o.Ended && o.Status() != "0", "that call ends with %s", &o)
	p1.Reset()
	e.finish(c2, p2)
	e.works(e.client())
}

func lateFrames(e *env) {
	c, p := e.call()
	c.SendReset(http2.ErrCodeCancel)
	p.Reset()
	// The peer has not seen the reset yet, as far as anyone knows.
	p.SendHeaders(false, h2script.Response()...)
	p.SendMessage(false, "late")
	p.Credit(10)
	p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
	p.SendReset(http2.ErrCodeNo)
	c.Credit(10)
	e.works(e.client())
}

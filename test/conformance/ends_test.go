package conformance_test

import (
	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var endCases = []testCase{
	{Name: "cancel", Line: "a client's cancel reaches the peer as RST_STREAM(CANCEL)", Run: cancel},
	{Name: "deadline-peer", Line: "an expired deadline reaches the peer as RST_STREAM(CANCEL)",
		Proxied: true, Run: deadlinePeer},
	{Name: "deadline-client", Line: "an expired deadline ends the call for a client that waits on",
		Proxied: true, Run: deadlineClient},
	{Name: "client-lost", Line: "a client's lost connection reaches the peer as RST_STREAM(CANCEL)",
		Proxied: true, Run: clientLost},
	{Name: "reset-codes", Line: "a peer's RST_STREAM reaches the client with its code", Run: resetCodes},
	{Name: "peer-lost", Line: "a peer's connection lost before the response is UNAVAILABLE at once",
		Proxied: true, Run: func(e *env) { e.peerLost(false) }},
	{Name: "peer-lost-later", Line: "a peer's connection lost within the response is UNAVAILABLE at once",
		Proxied: true, Run: func(e *env) { e.peerLost(true) }},
	{Name: "no-peer", Line: "a call for which no peer can be reached is UNAVAILABLE, as Trailers-Only",
		Proxied: true, Run: noPeer},
}

func cancel(e *env) {
	c, p := e.call()
	c.SendMessage(false, "m")
	p.Bytes(6)
	c.SendReset(http2.ErrCodeCancel)
	code := p.Reset()
	e.check(code == http2.ErrCodeCancel, "the peer gets RST_STREAM(%v)", code)
	e.works(e.client())
}

func deadlinePeer(e *env) {
	_, p := e.call(h2script.Fields("grpc-timeout", "200m")...)
	code := p.Reset()
	e.check(code == http2.ErrCodeCancel, "the peer gets RST_STREAM(%v)", code)
}

func deadlineClient(e *env) {
	c, _ := e.call(h2script.Fields("grpc-timeout", "200m")...)
	o := c.Outcome()
	e.check(o.Status() == "4" || o.Reset && o.Code == http2.ErrCodeCancel, "the call ends with %s", &o)
	e.works(e.client())
}

func clientLost(e *env) {
	c, p := e.call()
	c.Conn.CloseHard()
	code := p.Reset()
	e.check(code == http2.ErrCodeCancel, "the peer gets RST_STREAM(%v)", code)
}

func resetCodes(e *env) {
	for _, code := range []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeEnhanceYourCalm, http2.ErrCode(0x99)} {
		c, p := e.call()
		p.SendHeaders(false, h2script.Response()...)
		c.Headers()
		p.SendReset(code)
		o := c.Outcome()
		e.check(o.Reset && o.Code == code, "RST_STREAM(%v) becomes %s", code, &o)
	}
	e.works(e.client())
}

func (e *env) peerLost(later bool) {
	c, p := e.call()
	c.SendMessage(false, "m")
	p.Bytes(6)
	if later {
		p.SendHeaders(false, h2script.Response()...)
		p.SendMessage(false, "m")
		c.Headers()
		c.Bytes(6)
	}
	p.Conn.CloseHard()
	o := c.Outcome()
	e.check(o.Status() == "14", "the call ends with %s", &o)
	e.works(e.client()) // on a new connection
}

func noPeer(e *env) {
	e.peer(h2script.Options{}).Close()
	c := e.client().OpenEnded(h2script.Request(e.path()))
	o := c.OutcomeWithin(2 * h2script.Patience)
	e.check(o.Status() == "14", "the call ends with %s", &o)
	e.check(len(o.Blocks) == 1, "the response is not Trailers-Only")
	e.check(len(h2script.Values(o.Last(), "grpc-message")) == 1, "the status has no message")
}

package conformance_test

import (
	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var portCases = []testCase{
	{Name: "bad-preface", Line: "a bad preface ends its connection", Proxied: true, Run: func(e *env) {
		e.says("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n and so on and on")
	}},
	{Name: "garbage", Line: "garbage in the place of the preface ends its connection",
		Proxied: true, Run: func(e *env) { e.says(random(4096)) }},
	{Name: "garbage-later", Line: "garbage after the preface ends its connection", Proxied: true, Run: func(e *env) {
		e.connectionError(func(c *h2script.Conn) { c.Raw([]byte(random(4096))) })
	}},
	{Name: "no-settings", Line: "another frame than SETTINGS after the preface ends the connection",
		Proxied: true, Run: func(e *env) {
			e.says(http2.ClientPreface + string(h2script.FrameBytes(http2.FramePing, 0, 0, make([]byte, 8))))
		}},
	{Name: "http1", Line: "HTTP/1.1 to the port ends its connection", Proxied: true, Run: func(e *env) {
		e.says("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n")
	}},
	{Name: "silence", Line: "silence: 100 connections without a byte and 100 with a preface alone",
		Proxied: true, Run: silence},
}

// says opens a connection that says nothing but this.
func (e *env) says(bytes string) {
	e.abused(memoryBound, func() {
		c := e.dial(h2script.Options{NoSettings: true})
		c.Raw([]byte(bytes))
		e.ends(c)
	})
}

func silence(e *env) {
	e.abused(200*128<<10, func() { // scripted clients included
		for range 100 {
			e.dial(h2script.Options{NoSettings: true})
			e.dial(h2script.Options{NoSettings: true}).Raw([]byte(http2.ClientPreface))
		}
	})
}

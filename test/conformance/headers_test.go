package conformance_test

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var headerCases = []testCase{
	{Name: "authority", Line: "`:authority` is the client's", Run: func(e *env) { e.arrives(":authority", "name.example:99") }},
	{Name: "scheme", Line: "`:scheme` is the client's", Run: func(e *env) { e.arrives(":scheme", "https") }},
	{Name: "user-agent", Line: "`user-agent` is the client's", Run: userAgent},
	{Name: "te", Line: "`te` is the client's", Run: func(e *env) { e.arrives("te", "trailers") }},
	{Name: "hop-headers-request", Line: "connection-level headers of a request are never forwarded",
		Proxied: true, Run: hopHeadersRequest},
	{Name: "hop-headers-response", Line: "connection-level headers of a response are never forwarded",
		Proxied: true, Run: hopHeadersResponse},
	{Name: "hop-headers-request-malformed", Line: "a request with connection-level headers is a stream error",
		Proxied: true, Run: hopHeadersRequestMalformed},
	{Name: "hop-headers-response-malformed", Line: "a response with connection-level headers is an error of its call",
		Proxied: true, Run: hopHeadersResponseMalformed},
	{Name: "timeout", Line: "`grpc-timeout` is forwarded, less the time that has passed at the most", Run: timeout},
	{Name: "timeout-waiting", Line: "the deadline also holds while a call waits inside the proxy",
		Proxied: true, Run: timeoutWaiting},
	{Name: "previous-attempts", Line: "`grpc-previous-rpc-attempts` passes",
		Run: func(e *env) { e.arrives("grpc-previous-rpc-attempts", "2") }},
}

// arrives checks that a request's field arrives as it is.
func (e *env) arrives(name, value string) {
	_, p := e.call(h2script.Field{Name: name, Value: value})
	got := h2script.Values(p.Request, name)
	e.check(slices.Equal(got, []string{value}), "the peer gets %q", strings.Join(got, ","))
}

// userAgent names no version of what the proxy puts in its place.
func userAgent(e *env) {
	_, p := e.call(h2script.Fields("user-agent", "mine/1 (x)")...)
	e.check(slices.Equal(h2script.Values(p.Request, "user-agent"), []string{"mine/1 (x)"}), "the peer gets the proxy's own")
}

// hopHeaders make a message malformed (RFC 9113 §8.2.2).
var hopHeaders = h2script.Fields("connection", "close", "keep-alive", "timeout=5", "proxy-connection", "keep-alive",
	"transfer-encoding", "chunked", "upgrade", "h2c")

func hopHeadersRequest(e *env) {
	for _, f := range hopHeaders {
		path := e.path()
		c := e.client().OpenEnded(h2script.Request(path, f))
		if p, _ := e.fate(c, path); p != nil {
			e.check(h2script.Values(p.Request, f.Name) == nil, "%s is forwarded", f.Name)
			e.finish(c, p)
		}
	}
	e.works(e.client())
}

func hopHeadersResponse(e *env) {
	for _, f := range hopHeaders {
		c, p := e.call()
		p.SendHeaders(false, h2script.Response(f)...)
		p.SendHeaders(true, append(h2script.Fields("grpc-status", "0"), f)...)
		o := c.Outcome()
		for _, b := range o.Blocks {
			e.check(h2script.Values(b, f.Name) == nil, "%s is forwarded", f.Name)
		}
	}
	e.works(e.client())
}

func hopHeadersRequestMalformed(e *env) {
	for _, f := range hopHeaders {
		path := e.path()
		c := e.client().OpenEnded(h2script.Request(path, f))
		p, o := e.fate(c, path)
		e.check(p == nil, "the call passes without its %s", f.Name)
		e.check(o.Reset, "a call with %s ends with %s", f.Name, &o)
	}
	e.works(e.client())
}

func hopHeadersResponseMalformed(e *env) {
	for _, f := range hopHeaders {
		c, p := e.call()
		p.SendHeaders(false, h2script.Response(f)...)
		p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
		o := c.Outcome()
		e.check(o.Status() != "0", "the call passes without its %s", f.Name)
	}
	e.works(e.client())
}

// grpcTimeout parses a grpc-timeout.
func grpcTimeout(s string) time.Duration {
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s[:len(s)-1])
	if err != nil {
		return 0
	}
	return time.Duration(n) * units[s[len(s)-1]]
}

func timeout(e *env) {
	_, p := e.call(h2script.Fields("grpc-timeout", "30S")...)
	got := grpcTimeout(strings.Join(h2script.Values(p.Request, "grpc-timeout"), ","))
	e.check(got > 15*time.Second && got <= 30*time.Second, "the peer gets another")
	_, p = e.call()
	e.check(h2script.Values(p.Request, "grpc-timeout") == nil, "the peer gets one that the client did not send")
}

func timeoutWaiting(e *env) {
	e.peer(h2script.Options{NoSettings: true}) // never ready
	path := e.path()
	start := time.Now()
	c := e.client().OpenEnded(h2script.Request(path, h2script.Fields("grpc-timeout", "300m")...))
	o := c.Outcome()
	e.check(o.Status() == "4" || o.Reset, "the call ends with %s", &o)
	e.check(time.Since(start) >= 250*time.Millisecond, "the call ends before its deadline")
}

package conformance_test

import (
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var statusCases = []testCase{
	{Name: "status-codes", Line: "status 0 to 16 and unknown ones (17, 99) pass, with `grpc-message`", Run: statusCodes},
	{Name: "status-message-malformed", Line: "a `grpc-message` that is not well encoded passes as it is", Run: func(e *env) {
		e.trailer("grpc-message", "100% or %zz")
	}},
	{Name: "status-details", Line: "`grpc-status-details-bin` passes", Run: func(e *env) { e.details(5, 5) }},
	{Name: "status-details-other", Line: "`grpc-status-details-bin` that names another code passes",
		Run: func(e *env) { e.details(10, 3) }},
	{Name: "pushback", Line: "`grpc-retry-pushback-ms` passes",
		Run: func(e *env) { e.trailer("grpc-retry-pushback-ms", "250") }},
	{Name: "load-metrics", Line: "`endpoint-load-metrics-bin` passes",
		Run: func(e *env) { e.trailer("endpoint-load-metrics-bin", "CQAAAAAAAOA/") }},
}

func statusCodes(e *env) {
	const message = "caf%C3%A9 100%25"
	for i := range 19 {
		code := fmt.Sprint(i)
		if i == 18 {
			code = "99"
		}
		status := h2script.Fields("grpc-status", code, "grpc-message", message)
		c, p := e.call()
		p.SendHeaders(false, h2script.Response()...)
		p.SendHeaders(true, status...)
		o := c.Outcome()
		e.check(o.Status() == code && len(o.Blocks) == 2, "status %s becomes %s", code, &o)
		if got := h2script.Values(o.Last(), "grpc-message"); i > 0 {
			e.check(slices.Equal(got, []string{message}), "the message of status %s is changed", code)
		}
	}
}

// details sends a google.rpc.Status with that inner code, and a field that nobody knows, beside an outer code.
func (e *env) details(outer, inner byte) {
	raw := []byte{0x08, inner, 0x12, 1, 'm', 0x9a, 0x06, 2, 'h', 'i'}
	c, p := e.call()
	p.SendHeaders(false, h2script.Response()...)
	p.SendHeaders(true, h2script.Fields("grpc-status", fmt.Sprint(outer), "grpc-message", "m",
		"grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(raw))...)
	o := c.Outcome()
	e.check(o.Status() == fmt.Sprint(outer), "the call ends with %s", &o)
	e.check(slices.Equal(decoded(h2script.Values(o.Last(), "grpc-status-details-bin")), []string{string(raw)}), "they arrive changed")
}

func (e *env) trailer(name, value string) {
	c, p := e.call()
	p.SendHeaders(true, h2script.Response(h2script.Fields("grpc-status", "14", name, value)...)...)
	o := c.Outcome()
	e.check(o.Status() == "14" && slices.Equal(h2script.Values(o.Last(), name), []string{value}), "the client gets another")
}

package conformance_test

import (
	"slices"
	"time"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var stallCases = []testCase{
	{Name: "stall-response", Line: "a client's stalled stream blocks no other", Run: func(e *env) { e.stall(1, false) }},
	{Name: "stall-request", Line: "a peer's stalled stream blocks no other", Run: func(e *env) { e.stall(1, true) }},
	{Name: "stall-response-100", Line: "nor do 100 stalled streams of a client", Run: func(e *env) { e.stall(100, false) }},
	{Name: "stall-request-100", Line: "nor do 100 stalled streams of a peer", Run: func(e *env) { e.stall(100, true) }},
	{Name: "backpressure-request", Line: "a peer that gives no credit holds the client back",
		Run: func(e *env) { e.backpressure(true) }},
	{Name: "backpressure-response", Line: "a client that gives no credit holds the peer back",
		Run: func(e *env) { e.backpressure(false) }},
}

// messages gives n messages of size bytes each, one after the other.
func messages(n, size int) []byte {
	return slices.Repeat(h2script.Message(0, random(size)), n)
}

// stall opens streams whose receiver gives no credit to them, has the senders send as much as they can, and makes another call on the
// same connections. Then it gives the first one credit, which must bring the rest of its DATA.
func (e *env) stall(streams int, request bool) {
	connection := h2script.Options{Credit: h2script.CreditConnection}
	e.peer(connection)
	cc := e.dial(connection)
	data := messages(20, 8000)
	var first *h2script.Stream
	var waits []func() int
	for range streams {
		from, to := e.callOn(cc)
		if !request {
			from, to = to, from
			from.SendHeaders(false, h2script.Response()...)
			to.Headers()
		}
		waits = append(waits, from.StartUpload(data, false))
		if first == nil {
			first = to
		}
		to.Bytes(60000) // of the window's 65,535
	}
	c, p := e.callOn(cc)
	c.SendMessage(true, "passes")
	p.Bytes(5 + len("passes"))
	e.finish(c, p)
	first.Credit(uint32(len(data)))
	first.Bytes(len(data) - 60000)
	e.check(waits[0]() == len(data), "a stalled stream does not go on when it gets credit")
}

func (e *env) backpressure(request bool) {
	from, to := e.call()
	if !request {
		from, to = to, from
		from.SendHeaders(false, h2script.Response()...)
		to.Headers()
	}
	data := messages(1024, 16<<10)
	sent := from.Upload(data, false, 500*time.Millisecond)
	e.check(sent < len(data)/2, "the proxy takes all that is sent")
	e.works(e.dial(h2script.Options{}))
}

package conformance_test

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var hpackCases = []testCase{
	{Name: "hpack-order", Line: "header blocks of 200 calls at once stay in step with the tables, both sides", Run: hpackOrder},
	{Name: "hpack-reset-request", Line: "the block of a call that was reset at once is still decoded", Run: hpackResetRequest},
	{Name: "hpack-reset-response", Line: "the response block of a call that was reset is still decoded",
		Run: hpackResetResponse},
	{Name: "hpack-table-full", Line: "fields larger than the table, and a table that turns over, stay in step",
		Run: hpackTableFull},
	{Name: "continuation", Line: "blocks may be cut anywhere into CONTINUATION frames; END_STREAM is that of HEADERS",
		Run: continuation},
	{Name: "huffman", Line: "Huffman-coded and plain literals are read alike", Run: huffman},
}

// answerWithID answers a call with its own x-id.
func answerWithID(p *h2script.Stream) {
	id := strings.Join(h2script.Values(p.Request, "x-id"), ",")
	p.SendHeaders(false, h2script.Response(h2script.Fields("x-id", id)...)...)
	p.SendHeaders(true, h2script.Fields("grpc-status", "0", "x-id", id)...)
}

func hpackOrder(e *env) {
	e.peer(h2script.Options{Answer: answerWithID})
	e.check(e.echoesIDs(200, ""), "a call gets the headers of another")
}

func (e *env) echoesIDs(calls int, prefix string) bool {
	var open []*h2script.Stream
	for i := range calls {
		open = append(open, e.client().OpenEnded(h2script.Request(e.path(), h2script.Fields("x-id", fmt.Sprint(prefix, i))...)))
	}
	for i, c := range open {
		o := c.Outcome()
		e.check(o.Status() == "0" && len(o.Blocks) == 2, "the call ends with %s", &o)
		for _, b := range o.Blocks {
			if !slices.Equal(h2script.Values(b, "x-id"), []string{fmt.Sprint(prefix, i)}) {
				return false
			}
		}
	}
	return true
}

func hpackResetRequest(e *env) {
	c := e.client().Open(h2script.Request(e.path(), h2script.Field{Name: "x-session", Value: "abc", Form: h2script.Indexed}))
	c.SendReset(http2.ErrCodeCancel)
	_, p := e.call(h2script.Field{Ref: 62})
	e.check(slices.Equal(h2script.Values(p.Request, "x-session"), []string{"abc"}), "the table is out of step")
}

func hpackResetResponse(e *env) {
	c, p := e.call()
	c.SendReset(http2.ErrCodeCancel)
	p.Reset()
	p.SendHeaders(false, h2script.Response(h2script.Field{Name: "x-tag", Value: "t", Form: h2script.Indexed})...)
	c, q := e.call()
	e.check(q.Conn == p.Conn, "the next call takes another connection")
	q.SendHeaders(true, h2script.Response(append(h2script.Fields("grpc-status", "0"), h2script.Field{Ref: 62})...)...)
	o := c.Outcome()
	e.check(o.Status() == "0", "the call ends with %s", &o)
	e.check(slices.Equal(h2script.Values(o.Last(), "x-tag"), []string{"t"}), "the table is out of step")
}

func hpackTableFull(e *env) {
	e.peer(h2script.Options{Answer: answerWithID})
	e.check(e.echoesIDs(10, strings.Repeat("x", 5000)), "a call gets the headers of another")
	e.check(e.echoesIDs(40, strings.Repeat("y", 500)), "a call gets the headers of another")
	e.check(e.echoesIDs(10, ""), "a call gets the headers of another")
}

func continuation(e *env) {
	for _, end := range []bool{false, true} {
		path := e.path()
		c := e.client().NewStream()
		c.SendBlock(end, h2script.Encode(h2script.Request(path, h2script.Fields("k", "v")...)...), 10)
		p := e.arrival(c, path)
		e.check(slices.Equal(h2script.Values(p.Request, "k"), []string{"v"}), "a field is missing")
		if !end {
			c.SendMessage(true, "after CONTINUATION")
			p.Bytes(5 + len("after CONTINUATION"))
		}
		p.HalfClose()
		p.SendBlock(false, h2script.Encode(h2script.Response(h2script.Fields("k", "v")...)...), 7)
		p.SendMessage(false, "m")
		p.SendBlock(true, h2script.Encode(h2script.Fields("grpc-status", "0", "k", "v")...), 7)
		o := c.Outcome()
		e.check(o.Status() == "0" && len(o.Body) == 6, "the call ends with %s", &o)
	}
}

func huffman(e *env) {
	request, headers, trailers := e.both(h2script.Field{Name: "x-huffman", Value: "www.example.com", Huffman: true, Form: h2script.Indexed})
	e.check(slices.Equal(h2script.Values(request, "x-huffman"), []string{"www.example.com"}) &&
		slices.Equal(h2script.Values(headers, "x-huffman"), []string{"www.example.com"}) &&
		slices.Equal(h2script.Values(trailers, "x-huffman"), []string{"www.example.com"}), "a value arrives changed")
}

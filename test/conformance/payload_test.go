package conformance_test

import (
	"bytes"
	"compress/gzip"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var payloadCases = []testCase{
	{Name: "any-bytes", Line: "messages of any bytes pass both ways, with any content-subtype", Run: anyBytes},
	{Name: "content-type-parameters", Line: "parameters of the content type are kept", Run: contentTypeParameters},
	{Name: "response-subtype", Line: "the response's content-subtype is the peer's, also where it differs from the request's",
		Run: responseSubtype},
	{Name: "gzip-bytes", Line: "compressed messages pass byte for byte", Run: gzipBytes},
	{Name: "mixed-flags", Line: "compressed and plain messages mix in one stream", Run: mixedFlags},
	{Name: "unknown-encoding-request", Line: "a request in an encoding that the proxy does not know (zstd) passes",
		Run: unknownEncodingRequest},
	{Name: "unknown-encoding-response", Line: "a response in an encoding that the proxy does not know passes",
		Run: unknownEncodingResponse},
	{Name: "accept-encoding", Line: "`grpc-accept-encoding` is the client's", Run: acceptEncoding},
	{Name: "large-message", Line: "a message of 5 MiB passes, both ways", Run: largeMessage},
	{Name: "empty-message", Line: "empty messages, and streams without any, pass", Run: emptyMessage},
}

// random gives n bytes that are the same in every run.
func random(n int) string {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func anyBytes(e *env) {
	for _, subtype := range []string{"", "+proto", "+json", "+flatbuffers", "+x.y-z"} {
		ct := h2script.Fields("content-type", "application/grpc"+subtype)
		c, p := e.call(ct...)
		got := h2script.Values(p.Request, "content-type")
		e.check(slices.Equal(got, []string{ct[0].Value}), "the peer gets another content type")
		out, in := h2script.Message(0, random(3000)), h2script.Message(0, "\x00\xff{"+random(100))
		c.SendData(true, out)
		e.check(bytes.Equal(p.Bytes(len(out)), out), "the request arrives changed")
		p.SendHeaders(false, h2script.Response(ct...)...)
		p.SendData(false, in)
		p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
		o := c.Outcome()
		e.check(o.Status() == "0", "the call ends with %s", &o)
		e.check(bytes.Equal(o.Body, in), "the response arrives changed")
		e.check(slices.Equal(h2script.Values(o.Blocks[0], "content-type"), []string{ct[0].Value}), "the client gets another content type")
	}
}

func contentTypeParameters(e *env) {
	const ct = "application/grpc;charset=utf-8"
	_, p := e.call(h2script.Fields("content-type", ct)...)
	got := h2script.Values(p.Request, "content-type")
	e.check(len(got) == 1 && got[0] == ct, "they arrive as another content type: %q", strings.Join(got, ","))
}

func responseSubtype(e *env) {
	c, p := e.call(h2script.Fields("content-type", "application/grpc+proto")...)
	p.SendHeaders(false, h2script.Response(h2script.Fields("content-type", "application/grpc+json")...)...)
	got := h2script.Values(c.Headers().Fields, "content-type")
	e.check(len(got) == 1 && got[0] == "application/grpc+json", "the client gets %q", strings.Join(got, ","))
}

// gzipped compresses in a way that the usual settings do not give.
func gzipped(s string) string {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.HuffmanOnly)
	w.Comment = "mine"
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func gzipBytes(e *env) {
	c, p := e.call(h2script.Fields("grpc-encoding", "gzip", "grpc-accept-encoding", "gzip")...)
	e.check(slices.Equal(h2script.Values(p.Request, "grpc-encoding"), []string{"gzip"}), "the peer gets another grpc-encoding")
	m := h2script.Message(1, gzipped("the same words, the same words, the same words"))
	c.SendData(true, m)
	got := p.Bytes(5)
	e.check(got[0] == 1, "the message arrives inflated")
	e.check(bytes.Equal(got, m[:5]) && bytes.Equal(p.Bytes(len(m)-5), m[5:]), "the message is inflated and deflated again")
	p.SendHeaders(false, h2script.Response(h2script.Fields("grpc-encoding", "gzip")...)...)
	p.SendData(false, m)
	p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
	o := c.Outcome()
	e.check(o.Status() == "0" && bytes.Equal(o.Body, m), "the response's message is inflated and deflated again")
}

func mixedFlags(e *env) {
	c, p := e.call(h2script.Fields("grpc-encoding", "gzip", "grpc-accept-encoding", "gzip")...)
	for _, flag := range []byte{0, 1, 0} {
		body := "plain"
		if flag == 1 {
			body = gzipped(body)
		}
		c.SendData(false, h2script.Message(flag, body))
		got := p.Bytes(5)
		e.check(got[0] == flag, "all messages leave compressed alike")
		p.Bytes(len(body))
	}
}

func unknownEncodingRequest(e *env) {
	c, p := e.call(h2script.Fields("grpc-encoding", "zstd")...)
	m := h2script.Message(1, "(zstd)")
	c.SendData(true, m)
	e.check(bytes.Equal(p.Bytes(len(m)), m), "the request arrives changed")
	e.finish(c, p)
}

func unknownEncodingResponse(e *env) {
	c, p := e.call(h2script.Fields("grpc-accept-encoding", "zstd")...)
	m := h2script.Message(1, "(zstd)")
	p.SendHeaders(false, h2script.Response(h2script.Fields("grpc-encoding", "zstd")...)...)
	p.SendData(false, m)
	p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
	o := c.Outcome()
	e.check(o.Status() == "0", "the call ends with %s", &o)
	e.check(bytes.Equal(o.Body, m), "the response arrives changed")
}

func acceptEncoding(e *env) {
	for _, accept := range []string{"identity", "zstd,br"} {
		_, p := e.call(h2script.Fields("grpc-accept-encoding", accept)...)
		got := h2script.Values(p.Request, "grpc-accept-encoding")
		e.check(len(got) == 1 && got[0] == accept, "the peer is told %q", strings.Join(got, ","))
	}
}

func largeMessage(e *env) {
	e.peer(h2script.Options{Credit: h2script.CreditAll})
	c, p := e.callOn(e.dial(h2script.Options{Credit: h2script.CreditAll}))
	m := h2script.Message(0, random(5<<20))
	for _, way := range []struct{ from, to *h2script.Stream }{{c, p}, {p, c}} {
		if way.from == p {
			p.SendHeaders(false, h2script.Response()...)
			c.Headers()
		}
		sent := way.from.StartUpload(m, false)
		e.check(bytes.Equal(way.to.Bytes(len(m)), m), "it arrives changed")
		e.check(sent() == len(m), "it stalls")
	}
	p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
	o := c.Outcome()
	e.check(o.Status() == "0", "the call ends with %s", &o)
}

func emptyMessage(e *env) {
	c, p := e.call()
	empty := h2script.Message(0, "")
	c.SendData(true, empty)
	e.check(bytes.Equal(p.Bytes(5), empty), "an empty message arrives changed")
	p.HalfClose()
	p.SendHeaders(false, h2script.Response()...)
	p.SendData(false, empty)
	p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
	o := c.Outcome()
	e.check(o.Status() == "0" && bytes.Equal(o.Body, empty), "an empty response arrives changed")

	c, p = e.call()
	c.SendData(true, nil)
	p.HalfClose()
	p.SendHeaders(false, h2script.Response()...)
	p.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
	o = c.Outcome()
	e.check(o.Status() == "0" && len(o.Body) == 0 && len(o.Blocks) == 2, "a stream without messages arrives changed")
}

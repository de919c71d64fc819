package conformance_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

var metadataCases = []testCase{
	{Name: "metadata-order", Line: "the order of metadata is kept, across keys too", Run: metadataOrder},
	{Name: "metadata-duplicates", Line: "duplicates and empty values pass, in order", Run: metadataDuplicates},
	{Name: "metadata-bin", Line: "`-bin` values pass, padded or not, in headers and trailers", Run: metadataBin},
	{Name: "metadata-bin-joined", Line: "`-bin` values joined by commas in one field of a request pass",
		Run: metadataBinJoined},
	{Name: "metadata-bin-joined-response", Line: "the same in trailers", Run: metadataBinJoinedResponse},
	{Name: "metadata-utf8", Line: "UTF-8 bytes in values pass", Run: metadataUTF8},
	{Name: "http-names", Line: "metadata that is named like HTTP headers passes and steers nothing", Run: httpNames},
	{Name: "never-indexed-request", Line: "never-indexed literals stay so, to the peer", Run: neverIndexedRequest},
	{Name: "never-indexed-response", Line: "never-indexed literals stay so, to the client", Run: neverIndexedResponse},
	{Name: "much-metadata", Line: "100 keys and 40 KiB of headers pass", Run: muchMetadata},
	{Name: "too-much-metadata", Line: "headers over the limit get a status; the connection survives",
		Proxied: true, Run: tooMuchMetadata},
}

// both sends the fields as request metadata, response headers and trailers of one call and gives what arrived of each.
func (e *env) both(fields ...h2script.Field) (request, headers, trailers []hpack.HeaderField) {
	c, p := e.call(fields...)
	p.SendHeaders(false, h2script.Response(fields...)...)
	p.SendHeaders(true, append(h2script.Fields("grpc-status", "0"), fields...)...)
	o := c.Outcome()
	e.check(o.Status() == "0" && len(o.Blocks) == 2, "the call ends with %s", &o)
	return p.Request, o.Blocks[0], o.Blocks[1]
}

func metadataOrder(e *env) {
	var fields []h2script.Field
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("k", i*7%20))
		fields = append(fields, h2script.Field{Name: want[i], Value: "v"})
	}
	request, headers, trailers := e.both(fields...)
	for _, block := range [][]hpack.HeaderField{request, headers, trailers} {
		var got []string
		for _, f := range block {
			if strings.HasPrefix(f.Name, "k") {
				got = append(got, f.Name)
			}
		}
		e.check(slices.Equal(got, want), "the order of different keys is lost")
	}
}

func metadataDuplicates(e *env) {
	want := []string{"b", "a", "", "b", "a, c"}
	var fields []h2script.Field
	for _, v := range want {
		fields = append(fields, h2script.Field{Name: "k", Value: v})
	}
	request, headers, trailers := e.both(fields...)
	e.check(slices.Equal(h2script.Values(request, "k"), want), "the peer gets others")
	e.check(slices.Equal(h2script.Values(headers, "k"), want), "the client gets others in headers")
	e.check(slices.Equal(h2script.Values(trailers, "k"), want), "the client gets others in trailers")
}

// decoded decodes -bin values, also those that were joined by commas.
func decoded(values []string) (out []string) {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(part, "="))
			if err != nil {
				return []string{"not base64"}
			}
			out = append(out, string(b))
		}
	}
	return out
}

func metadataBin(e *env) {
	want := []string{"\x00\xff\xfe", "four", ""}
	request, headers, trailers := e.both(
		h2script.Field{Name: "k-bin", Value: base64.StdEncoding.EncodeToString([]byte(want[0]))},
		h2script.Field{Name: "k-bin", Value: base64.RawStdEncoding.EncodeToString([]byte(want[1])), Huffman: true},
		h2script.Field{Name: "k-bin", Value: ""})
	e.check(slices.Equal(decoded(h2script.Values(request, "k-bin")), want), "the peer gets others")
	e.check(slices.Equal(decoded(h2script.Values(headers, "k-bin")), want), "the client gets others in headers")
	e.check(slices.Equal(decoded(h2script.Values(trailers, "k-bin")), want), "the client gets others in trailers")
}

func metadataBinJoined(e *env) {
	_, p := e.call(h2script.Field{Name: "k-bin", Value: "b25l,dHdv"})
	e.check(slices.Equal(decoded(h2script.Values(p.Request, "k-bin")), []string{"one", "two"}), "they arrive changed")
}

func metadataBinJoinedResponse(e *env) {
	c, p := e.call()
	p.SendHeaders(false, h2script.Response()...)
	p.SendHeaders(true, h2script.Fields("grpc-status", "0", "k-bin", "b25l,dHdv")...)
	o := c.Outcome()
	e.check(o.Status() == "0", "the call ends with %s", &o)
	e.check(slices.Equal(decoded(h2script.Values(o.Last(), "k-bin")), []string{"one", "two"}), "they arrive changed")
}

func metadataUTF8(e *env) {
	request, headers, trailers := e.both(h2script.Fields("name", "Zoë")...)
	for _, block := range [][]hpack.HeaderField{request, headers, trailers} {
		e.check(slices.Equal(h2script.Values(block, "name"), []string{"Zoë"}), "the value is dropped")
	}
}

func httpNames(e *env) {
	names := []string{
		"accept", "accept-encoding", "accept-language", "authorization", "cache-control", "content-disposition", "content-language",
		"cookie", "date", "expect", "forwarded", "if-none-match", "location", "max-forwards", "origin", "pragma", "priority",
		"proxy-authorization", "range", "referer", "retry-after", "server", "set-cookie", "vary", "via", "warning", "www-authenticate",
		"x-forwarded-for", "x-forwarded-host", "x-http-method-override", "x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms", "trailer",
		"grpc-trace-bin", "grpc-tags-bin",
	}
	var fields []h2script.Field
	for _, n := range names {
		fields = append(fields, h2script.Field{Name: n, Value: "MTAw"})
	}
	request, headers, trailers := e.both(fields...)
	for _, n := range names {
		e.check(slices.Equal(h2script.Values(request, n), []string{"MTAw"}), "the peer does not get %s", n)
		e.check(slices.Equal(h2script.Values(headers, n), []string{"MTAw"}), "the client does not get %s in headers", n)
		e.check(slices.Equal(h2script.Values(trailers, n), []string{"MTAw"}), "the client does not get %s in trailers", n)
	}
}

// sensitive tells whether the field of that name came as a never-indexed literal.
func sensitive(fields []hpack.HeaderField, name string) bool {
	return slices.ContainsFunc(fields, func(f hpack.HeaderField) bool { return f.Name == name && f.Sensitive })
}

func neverIndexedRequest(e *env) {
	_, p := e.call(h2script.Field{Name: "authorization", Value: "secret", Form: h2script.Never},
		h2script.Field{Name: "x-token", Value: "secret", Form: h2script.Never, Huffman: true})
	e.check(sensitive(p.Request, "authorization") && sensitive(p.Request, "x-token"), "they leave as literals that may be indexed")
}

func neverIndexedResponse(e *env) {
	c, p := e.call()
	p.SendHeaders(false, h2script.Response(h2script.Field{Name: "set-cookie", Value: "secret", Form: h2script.Never})...)
	e.check(sensitive(c.Headers().Fields, "set-cookie"), "they leave as literals that may be indexed")
}

func muchMetadata(e *env) {
	var fields []h2script.Field
	for i := range 100 {
		fields = append(fields, h2script.Field{Name: fmt.Sprint("k", i), Value: strings.Repeat("v", 400) + fmt.Sprint(i)})
	}
	request, headers, trailers := e.both(fields...)
	for _, f := range fields {
		for _, block := range [][]hpack.HeaderField{request, headers, trailers} {
			e.check(slices.Equal(h2script.Values(block, f.Name), []string{f.Value}), "a field is missing")
		}
	}
}

func tooMuchMetadata(e *env) {
	cc := e.client()
	for _, size := range []int{headerLimit + 4096, 4 * headerLimit} {
		path := e.path()
		c := cc.NewStream()
		fields := h2script.Request(path)
		for range size / 1024 {
			fields = append(fields, h2script.Field{Name: "k", Value: strings.Repeat("v", 1024)})
		}
		c.SendHeaders(true, fields...)
		o := c.Outcome()
		e.check(o.Status() != "" && o.Status() != "0", "the call ends with %s", &o)
		e.works(cc)
	}
}

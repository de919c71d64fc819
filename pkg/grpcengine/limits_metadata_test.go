package grpcengine_test

// What this stack cannot pass. Each TestLimit… pins the present behaviour and is a row of docs/engine-grpc-limits.md; one that fails
// may well be good news.

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestLimitUserAgentSchemeAndTe(t *testing.T) {
	h := ask(t, "user-agent", "mine/1")
	if got := field(h, "user-agent"); len(got) != 1 || !strings.HasPrefix(got[0], "grpc-go/") {
		t.Errorf("user-agent %q", got)
	}
	if got := field(h, "te"); len(got) != 1 || got[0] != "trailers" {
		t.Errorf("te %q", got)
	}
	if got := field(h, ":scheme"); len(got) != 1 || got[0] != "http" {
		t.Errorf(":scheme %q", got)
	}
}

func TestLimitUTF8Metadata(t *testing.T) {
	got := make(chan *http2.MetaHeadersFrame, 1)
	s, c := rawPair(t, tells(got))
	c.request(1, true, "name", "Zoë", "name", "Zoe")
	if v := field(receive(t, got), "name"); !slices.Equal(v, []string{"Zoe"}) {
		t.Errorf("the peer got %q", v)
	}
	if n := s.engine.Stats().DroppedMetadata; n != 1 {
		t.Errorf("%d dropped", n)
	}
}

func TestLimitCommaJoinedBin(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	_, c := rawPair(t, answerAll("x"))
	c.request(1, true, "k-bin", b64([]byte("one"))+","+b64([]byte("two")))
	if code, _ := c.result(); code != "13" {
		t.Errorf("got %s, want INTERNAL", code)
	}
}

func TestLimitOrderAcrossKeys(t *testing.T) {
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("k", i))
	}
	got := make(chan *http2.MetaHeadersFrame, 1)
	_, c := rawPair(t, tells(got))
	var fields []string
	for _, k := range want {
		fields = append(fields, k, "")
	}
	for i := range 20 { // by chance it is kept once
		c.request(uint32(2*i+1), true, fields...)
		var order []string
		for _, f := range receive(t, got).Fields {
			if strings.HasPrefix(f.Name, "k") {
				order = append(order, f.Name)
			}
		}
		if !slices.Equal(order, want) {
			return
		}
	}
	t.Error("the order was kept")
}

func TestLimitNeverIndexedLiterals(t *testing.T) {
	got := make(chan *http2.MetaHeadersFrame, 1)
	_, c := rawPair(t, tells(got))
	c.buf.Reset()
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method}, {Name: ":authority", Value: "x"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
		{Name: "authorization", Value: "secret", Sensitive: true},
	} {
		must(t, c.enc.WriteField(f))
	}
	must(t, c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.buf.Bytes(), EndHeaders: true, EndStream: true}))
	for _, f := range receive(t, got).Fields {
		if f.Name == "authorization" && f.Sensitive {
			t.Error("the literal is still never-indexed")
		}
	}
}

func TestLimitContentTypeParameters(t *testing.T) {
	got := make(chan *http2.MetaHeadersFrame, 1)
	_, c := rawPair(t, tells(got))
	c.headers(1, true, ":method", "POST", ":scheme", "http", ":path", method, ":authority", "x", "te", "trailers",
		"content-type", "application/grpc;charset=utf-8")
	if ct := field(receive(t, got), "content-type"); !slices.Equal(ct, []string{"application/grpc+charset=utf-8"}) {
		t.Errorf("the peer got %q", ct)
	}
}

func TestLimitHeadersOverTheBound(t *testing.T) {
	_, c := rawPair(t, answerAll("x"))
	// Over the bound once decoded (2,000 times the same 1,000 bytes): a reset without a status.
	var fields []string
	for range 2000 {
		fields = append(fields, "k", strings.Repeat("x", 1000))
	}
	c.request(1, true, fields...)
	if code, _ := c.result(); code != "FRAME_SIZE_ERROR" {
		t.Errorf("got %s", code)
	}
	c.request(3, true)
	if code, _ := c.result(); code != "0" {
		t.Errorf("the next call on the connection: %s", code)
	}
	// Over the bound in what is sent: that ends the connection.
	c.buf.Reset()
	for range 1100 {
		must(t, c.enc.WriteField(hpack.HeaderField{Name: "k", Value: strings.Repeat("x", 1000), Sensitive: true}))
	}
	block := slices.Clone(c.buf.Bytes())
	const most = 16 << 10
	_ = c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: block[:most], EndStream: true})
	for block = block[most:]; len(block) > 0; {
		n := min(most, len(block))
		_ = c.f.WriteContinuation(5, n == len(block), block[:n])
		block = block[n:]
	}
	if code, _ := c.result(); code != "connection lost" {
		t.Errorf("got %s", code)
	}
}

func TestLimitCommaJoinedBinInResponse(t *testing.T) {
	two := base64.StdEncoding.EncodeToString([]byte("one")) + "," + base64.StdEncoding.EncodeToString([]byte("two"))
	for name, answer := range map[string]func(p *rawConn, id uint32){
		"headers": func(p *rawConn, id uint32) {
			p.headers(id, false, ":status", "200", "content-type", "application/grpc", "k-bin", two)
			p.message(id, 0, "x")
			p.headers(id, true, "grpc-status", "5")
		},
		"trailers": func(p *rawConn, id uint32) {
			p.headers(id, false, ":status", "200", "content-type", "application/grpc")
			p.message(id, 0, "x")
			p.headers(id, true, "grpc-status", "5", "k-bin", two)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if code, message := odd(t, answer); code != "13" || !strings.Contains(message, "k-bin") {
				t.Errorf("got %s %s, want INTERNAL that names the key", code, message)
			}
		})
	}
}

func TestLimitContentTypeOfResponseIsTheRequests(t *testing.T) {
	_, c := rawPair(t, func(p *rawConn) {
		if h := p.next(); h != nil {
			p.headers(h.StreamID, false, ":status", "200", "content-type", "application/grpc+json")
			p.message(h.StreamID, 0, "x")
			p.headers(h.StreamID, true, "grpc-status", "0")
			p.next()
		}
	})
	c.request(1, true)
	h := c.next()
	if h == nil {
		t.Fatal("connection lost")
	}
	if ct := field(h, "content-type"); !slices.Equal(ct, []string{"application/grpc"}) {
		t.Errorf("the client got %q", ct)
	}
}

func TestLimitPeerHeaderBound(t *testing.T) {
	leakCheck(t)
	raw := startRawPeer(t, []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 8192}}, answerAll("x"))
	s := startSidecar(t, options{})
	s.set(instance("small", raw.address))
	cc := dial(t, s.address)
	_, err := unary(metadata.AppendToOutgoingContext(testContext(t), "k", strings.Repeat("x", 9000)), cc, "x")
	if st := status.Convert(err); st.Code() != codes.ResourceExhausted || !strings.Contains(st.Message(), "app/small") ||
		!strings.Contains(st.Message(), "8192 bytes") {
		t.Errorf("got %v, want RESOURCE_EXHAUSTED that names the instance and its limit", st)
	}
	if got, err := unary(testContext(t), cc, "x"); got != "x" {
		t.Errorf("the next call: %q, %v", got, err)
	}
	s.quiet()
}

func TestLimitClientHeaderBound(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, answer := range map[string]func(p *rawConn, id uint32){
		"headers": func(p *rawConn, id uint32) {
			p.headers(id, false, ":status", "200", "content-type", "application/grpc", "k", long)
			p.message(id, 0, "x")
			p.headers(id, true, "grpc-status", "0")
		},
		"trailers": func(p *rawConn, id uint32) {
			p.headers(id, false, ":status", "200", "content-type", "application/grpc")
			p.message(id, 0, "x")
			p.headers(id, true, "grpc-status", "0", "k", long)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := rawPair(t, answerOnce(answer))
			must(t, c.f.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 256}))
			c.request(1, true)
			if code, _ := c.result(); code != "INTERNAL_ERROR" {
				t.Errorf("got %s, want RST_STREAM(INTERNAL_ERROR)", code)
			}
		})
	}
}

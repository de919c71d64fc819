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

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

func TestLimitUserAgentSchemeAndTe(t *testing.T) {
	h := ask(t, "user-agent", "mine/1")
	if got := enginetest.Values(h, "user-agent"); len(got) != 1 || !strings.HasPrefix(got[0], "grpc-go/") {
		t.Errorf("user-agent %q", got)
	}
	if got := enginetest.Values(h, "te"); len(got) != 1 || got[0] != "trailers" {
		t.Errorf("te %q", got)
	}
	if got := enginetest.Values(h, ":scheme"); len(got) != 1 || got[0] != "http" {
		t.Errorf(":scheme %q", got)
	}
}

func TestLimitUTF8Metadata(t *testing.T) {
	got := make(chan *http2.MetaHeadersFrame, 1)
	s, c := rawPair(t, tells(got))
	c.Request(1, true, "name", "Zoë", "name", "Zoe")
	if v := enginetest.Values(enginetest.Receive(t, got), "name"); !slices.Equal(v, []string{"Zoe"}) {
		t.Errorf("the peer got %q", v)
	}
	if n := s.Engine.Stats().DroppedMetadata; n != 1 {
		t.Errorf("%d dropped", n)
	}
}

func TestLimitCommaJoinedBin(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	_, c := rawPair(t, enginetest.AnswerAll("x"))
	c.Request(1, true, "k-bin", b64([]byte("one"))+","+b64([]byte("two")))
	if code, _ := c.Result(); code != "13" {
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
		c.Request(uint32(2*i+1), true, fields...)
		var order []string
		for _, f := range enginetest.Receive(t, got).Fields {
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
	c.Block.Reset()
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: enginetest.Method},
		{Name: ":authority", Value: "x"}, {Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
		{Name: "authorization", Value: "secret", Sensitive: true},
	} {
		enginetest.Must(t, c.Encoder.WriteField(f))
	}
	enginetest.Must(t, c.Framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: c.Block.Bytes(), EndHeaders: true, EndStream: true,
	}))
	for _, f := range enginetest.Receive(t, got).Fields {
		if f.Name == "authorization" && f.Sensitive {
			t.Error("the literal is still never-indexed")
		}
	}
}

func TestLimitContentTypeParameters(t *testing.T) {
	got := make(chan *http2.MetaHeadersFrame, 1)
	_, c := rawPair(t, tells(got))
	c.Headers(1, true, ":method", "POST", ":scheme", "http", ":path", enginetest.Method, ":authority", "x", "te", "trailers",
		"content-type", "application/grpc;charset=utf-8")
	ct := enginetest.Values(enginetest.Receive(t, got), "content-type")
	if !slices.Equal(ct, []string{"application/grpc+charset=utf-8"}) {
		t.Errorf("the peer got %q", ct)
	}
}

func TestLimitHeadersOverTheBound(t *testing.T) {
	_, c := rawPair(t, enginetest.AnswerAll("x"))
	// Over the bound once decoded (2,000 times the same 1,000 bytes): a reset without a status.
	var fields []string
	for range 2000 {
		fields = append(fields, "k", strings.Repeat("x", 1000))
	}
	c.Request(1, true, fields...)
	if code, _ := c.Result(); code != "FRAME_SIZE_ERROR" {
		t.Errorf("got %s", code)
	}
	c.Request(3, true)
	if code, _ := c.Result(); code != "0" {
		t.Errorf("the next call on the connection: %s", code)
	}
	// Over the bound in what is sent: that ends the connection.
	c.Block.Reset()
	for range 1100 {
		enginetest.Must(t, c.Encoder.WriteField(hpack.HeaderField{Name: "k", Value: strings.Repeat("x", 1000), Sensitive: true}))
	}
	block := slices.Clone(c.Block.Bytes())
	const most = 16 << 10
	_ = c.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: block[:most], EndStream: true})
	for block = block[most:]; len(block) > 0; {
		n := min(most, len(block))
		_ = c.Framer.WriteContinuation(5, n == len(block), block[:n])
		block = block[n:]
	}
	if code, _ := c.Result(); code != "connection lost" {
		t.Errorf("got %s", code)
	}
}

func TestLimitCommaJoinedBinInResponse(t *testing.T) {
	two := base64.StdEncoding.EncodeToString([]byte("one")) + "," + base64.StdEncoding.EncodeToString([]byte("two"))
	for name, answer := range map[string]func(p *enginetest.RawConn, id uint32){
		"headers": func(p *enginetest.RawConn, id uint32) {
			p.Headers(id, false, ":status", "200", "content-type", "application/grpc", "k-bin", two)
			p.Message(id, 0, "x")
			p.Headers(id, true, "grpc-status", "5")
		},
		"trailers": func(p *enginetest.RawConn, id uint32) {
			p.Headers(id, false, ":status", "200", "content-type", "application/grpc")
			p.Message(id, 0, "x")
			p.Headers(id, true, "grpc-status", "5", "k-bin", two)
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
	_, c := rawPair(t, func(p *enginetest.RawConn) {
		if h := p.Next(); h != nil {
			p.Headers(h.StreamID, false, ":status", "200", "content-type", "application/grpc+json")
			p.Message(h.StreamID, 0, "x")
			p.Headers(h.StreamID, true, "grpc-status", "0")
			p.Next()
		}
	})
	c.Request(1, true)
	h := c.Next()
	if h == nil {
		t.Fatal("connection lost")
	}
	if ct := enginetest.Values(h, "content-type"); !slices.Equal(ct, []string{"application/grpc"}) {
		t.Errorf("the client got %q", ct)
	}
}

func TestLimitPeerHeaderBound(t *testing.T) {
	enginetest.CheckLeaks(t)
	raw := enginetest.StartRawPeer(t, []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 8192}}, enginetest.AnswerAll("x"))
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("small", raw.Address))
	cc := enginetest.Dial(t, s.Address)
	_, err := enginetest.Unary(metadata.AppendToOutgoingContext(enginetest.Context(t), "k", strings.Repeat("x", 9000)), cc, "x")
	if st := status.Convert(err); st.Code() != codes.ResourceExhausted || !strings.Contains(st.Message(), "app/small") ||
		!strings.Contains(st.Message(), "8192 bytes") {
		t.Errorf("got %v, want RESOURCE_EXHAUSTED that names the instance and its limit", st)
	}
	if got, err := enginetest.Unary(enginetest.Context(t), cc, "x"); got != "x" {
		t.Errorf("the next call: %q, %v", got, err)
	}
	s.Quiet()
}

func TestLimitClientHeaderBound(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, answer := range map[string]func(p *enginetest.RawConn, id uint32){
		"headers": func(p *enginetest.RawConn, id uint32) {
			p.Headers(id, false, ":status", "200", "content-type", "application/grpc", "k", long)
			p.Message(id, 0, "x")
			p.Headers(id, true, "grpc-status", "0")
		},
		"trailers": func(p *enginetest.RawConn, id uint32) {
			p.Headers(id, false, ":status", "200", "content-type", "application/grpc")
			p.Message(id, 0, "x")
			p.Headers(id, true, "grpc-status", "0", "k", long)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := rawPair(t, answerOnce(answer))
			enginetest.Must(t, c.Framer.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 256}))
			c.Request(1, true)
			if code, _ := c.Result(); code != "INTERNAL_ERROR" {
				t.Errorf("got %s, want RST_STREAM(INTERNAL_ERROR)", code)
			}
		})
	}
}

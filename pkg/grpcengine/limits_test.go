package grpcengine_test

// What this stack cannot pass. Each test pins the present behaviour and is a row of docs/engine-grpc-limits.md; a test that fails here
// may well be good news.

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// rawPair is a scripted peer behind a sidecar, with a scripted client.
func rawPair(t *testing.T, script func(*rawConn)) (*sidecar, *rawConn) {
	t.Helper()
	leakCheck(t)
	raw := startRawPeer(t, nil, script)
	s := startSidecar(t, options{})
	s.set(instance("only", raw.address))
	return s, dialRaw(t, s.address)
}

// tells answers every call, and tells the headers of each.
func tells(got chan<- *http2.MetaHeadersFrame) func(*rawConn) {
	return func(c *rawConn) {
		for h := c.next(); h != nil; h = c.next() {
			got <- h
			c.answer(h.StreamID, "x")
		}
	}
}

// ask makes a call on a scripted client and gives what its peer saw.
func ask(t *testing.T, fields ...string) *http2.MetaHeadersFrame {
	t.Helper()
	got := make(chan *http2.MetaHeadersFrame, 1)
	_, c := rawPair(t, tells(got))
	c.request(1, true, fields...)
	return receive(t, got)
}

func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	return v
}

// result gives the status of the scripted client's call, be it Trailers-Only or not, or the code of its RST_STREAM.
func (c *rawConn) result() (code, message string) {
	for {
		switch f := c.frame().(type) {
		case nil:
			return "connection lost", ""
		case *http2.RSTStreamFrame:
			return f.ErrCode.String(), ""
		case *http2.MetaHeadersFrame:
			if s := field(f, "grpc-status"); len(s) > 0 {
				return s[0], strings.Join(field(f, "grpc-message"), "")
			}
		}
	}
}

func TestLimitMixedCompressedFlags(t *testing.T) {
	flags := make(chan byte, 2)
	_, c := rawPair(t, func(p *rawConn) {
		if p.next() == nil {
			return
		}
		flags <- p.data()[0]
		flags <- p.data()[0]
		p.next()
	})
	c.request(1, false, "grpc-encoding", "gzip")
	c.message(1, 0, "plain, as the sender wished")
	c.message(1, 1, gzipped("compressed"))
	if a, b := receive(t, flags), receive(t, flags); a != 1 || b != 1 {
		t.Errorf("the peer got the flags %d, %d: want all messages of the call compressed alike", a, b)
	}
}

func TestLimitUnknownEncodingOfRequest(t *testing.T) {
	_, c := rawPair(t, answerAll("x"))
	c.request(1, false, "grpc-encoding", "zstd")
	if code, _ := c.result(); code != "12" {
		t.Errorf("got %s, want UNIMPLEMENTED", code)
	}
}

func TestLimitUnknownEncodingOfResponse(t *testing.T) {
	_, c := rawPair(t, func(p *rawConn) {
		if h := p.next(); h != nil {
			p.headers(h.StreamID, false, ":status", "200", "content-type", "application/grpc", "grpc-encoding", "zstd")
			p.message(h.StreamID, 1, "(zstd)")
			p.next()
		}
	})
	c.request(1, true, "grpc-accept-encoding", "zstd")
	if code, _ := c.result(); code != "13" {
		t.Errorf("got %s, want INTERNAL", code)
	}
}

func TestLimitAcceptEncodingIsOurs(t *testing.T) {
	for _, accept := range []string{"identity", "zstd,br"} {
		if got := field(ask(t, "grpc-accept-encoding", accept), "grpc-accept-encoding"); len(got) != 1 || got[0] != "gzip" {
			t.Errorf("the client accepts %s, the peer was told %q", accept, got)
		}
	}
}

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

func TestLimitPartialMessageWaits(t *testing.T) {
	got := make(chan []byte, 1)
	_, c := rawPair(t, func(p *rawConn) {
		if p.next() == nil {
			return
		}
		got <- p.data()
		p.next()
	})
	c.request(1, false)
	must(t, c.f.WriteData(1, false, []byte{0, 0, 0, 0, 4, 'h', 'a'}))
	// A PING that is answered was read after the DATA.
	must(t, c.f.WritePing(false, [8]byte{1}))
	for acked := false; !acked; {
		f, err := c.f.ReadFrame()
		must(t, err)
		p, ok := f.(*http2.PingFrame)
		acked = ok && p.IsAck()
	}
	select {
	case b := <-got:
		t.Fatalf("the peer got %q before the message was whole", b)
	case <-time.After(50 * time.Millisecond):
	}
	must(t, c.f.WriteData(1, true, []byte("lf")))
	if b := receive(t, got); string(b) != "\x00\x00\x00\x00\x04half" {
		t.Errorf("the peer got %q", b)
	}
}

func TestLimitResetCodes(t *testing.T) {
	for reset, want := range map[http2.ErrCode]string{
		http2.ErrCodeCancel: "1", http2.ErrCodeEnhanceYourCalm: "8", http2.ErrCodeInternal: "13", http2.ErrCodeInadequateSecurity: "7",
	} {
		t.Run(reset.String(), func(t *testing.T) {
			_, c := rawPair(t, func(p *rawConn) {
				if h := p.next(); h != nil {
					_ = p.f.WriteRSTStream(h.StreamID, reset)
					p.next()
				}
			})
			c.request(1, false)
			if code, _ := c.result(); code != want {
				t.Errorf("the client got %s, want the status %s", code, want)
			}
		})
	}
}

func TestLimitInformationalResponses(t *testing.T) {
	_, c := rawPair(t, func(p *rawConn) {
		if h := p.next(); h != nil {
			p.headers(h.StreamID, false, ":status", "103", "link", "x")
			p.answer(h.StreamID, "x")
			p.next()
		}
	})
	c.request(1, true)
	h := c.next()
	if h == nil || h.PseudoValue("status") != "200" {
		t.Errorf("the client got %v first", h)
	}
}

func TestLimitHTTPErrorBecomesStatus(t *testing.T) {
	_, c := rawPair(t, func(p *rawConn) {
		if h := p.next(); h != nil {
			p.headers(h.StreamID, false, ":status", "503", "content-type", "text/html")
			_ = p.f.WriteData(h.StreamID, true, []byte("<p>sorry"))
			p.next()
		}
	})
	c.request(1, true)
	if code, message := c.result(); code != "14" || !strings.Contains(message, "503") {
		t.Errorf("got %s %s", code, message)
	}
}

func TestLimitStatusDetailsOfAnotherCode(t *testing.T) {
	raw, err := proto.Marshal(&spb.Status{Code: 3})
	must(t, err)
	_, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		s.SetTrailer(metadata.Pairs("grpc-status-details-bin", string(raw)))
		return status.Error(codes.Aborted, "m")
	})
	if _, err := unary(testContext(t), cc, "x"); status.Code(err) != codes.Internal {
		t.Errorf("got %v, want INTERNAL", err)
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

// grpc-go replays a call that had a stream once only, and only what fits in its buffer.
func TestLimitSecondRefusalIsSeen(t *testing.T) {
	leakCheck(t)
	s := startSidecar(t, options{})
	s.set(instance("a", startRawPeer(t, nil, refuses).address), instance("b", startRawPeer(t, nil, refuses).address),
		instance("c", startRawPeer(t, nil, refuses).address))
	if _, err := unary(testContext(t), dial(t, s.address), "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestLimitLargeRequestIsNotReplayed(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, echo)
	raw := startRawPeer(t, nil, func(c *rawConn) {
		h := c.next()
		if h == nil {
			return
		}
		_ = c.f.WriteWindowUpdate(0, 1<<20)
		_ = c.f.WriteWindowUpdate(h.StreamID, 1<<20)
		for n := 0; n < 300<<10; n += len(c.data()) {
		}
		_ = c.f.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
		c.next()
	})
	s := startSidecar(t, options{})
	s.set(instance("a", raw.address), instance("b", b.address))
	cc := dial(t, s.address)
	failed := 0
	for range 2 { // round robin: one of them begins with the scripted peer
		if _, err := unary(testContext(t), cc, strings.Repeat("x", 300<<10)); status.Code(err) == codes.Unavailable {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d calls failed, want 1", failed)
	}
}

// A later change of the stream limit is kept to, but opens no other connection.
func TestLimitLaterStreamLimitOnlyQueues(t *testing.T) {
	leakCheck(t)
	lowered, release := make(chan struct{}), make(chan struct{})
	raw := startRawPeer(t, nil, func(c *rawConn) {
		h := c.next()
		if h == nil {
			return
		}
		_ = c.f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		for {
			f, err := c.f.ReadFrame()
			if err != nil {
				return
			}
			if sf, ok := f.(*http2.SettingsFrame); ok && sf.IsAck() {
				break
			}
		}
		close(lowered)
		<-release
		c.answer(h.StreamID, "first")
		answerAll("second")(c)
	})
	s := startSidecar(t, options{})
	s.set(instance("only", raw.address))
	cc := dial(t, s.address)
	answers := make(chan string, 2)
	call := func() {
		got, err := unary(testContext(t), cc, "x")
		answers <- fmt.Sprint(got, err)
	}
	go call()
	<-lowered
	go call()
	eventually(t, "both calls are with the peer", func() bool {
		p := s.engine.Stats().Peers
		return len(p) == 1 && p[0].Streams == 2
	})
	if n := s.engine.Stats().Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	close(release)
	got := []string{receive(t, answers), receive(t, answers)}
	if slices.Sort(got); !slices.Equal(got, []string{"first<nil>", "second<nil>"}) {
		t.Errorf("got %q", got)
	}
}

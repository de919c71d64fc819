package grpcengine_test

// What this stack cannot pass. Each TestLimit… pins the present behaviour and is a row of docs/engine-grpc-limits.md; one that fails
// may well be good news.

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

func TestLimitResetCodes(t *testing.T) {
	for reset, want := range map[http2.ErrCode]string{
		http2.ErrCodeCancel: "1", http2.ErrCodeEnhanceYourCalm: "8", http2.ErrCodeInternal: "13", http2.ErrCodeInadequateSecurity: "7",
	} {
		t.Run(reset.String(), func(t *testing.T) {
			_, c := rawPair(t, func(p *enginetest.RawConn) {
				if h := p.Next(); h != nil {
					_ = p.Framer.WriteRSTStream(h.StreamID, reset)
					p.Next()
				}
			})
			c.Request(1, false)
			if code, _ := c.Result(); code != want {
				t.Errorf("the client got %s, want the status %s", code, want)
			}
		})
	}
}

func TestLimitInformationalResponses(t *testing.T) {
	_, c := rawPair(t, func(p *enginetest.RawConn) {
		if h := p.Next(); h != nil {
			p.Headers(h.StreamID, false, ":status", "103", "link", "x")
			p.Answer(h.StreamID, "x")
			p.Next()
		}
	})
	c.Request(1, true)
	h := c.Next()
	if h == nil || h.PseudoValue("status") != "200" {
		t.Errorf("the client got %v first", h)
	}
}

func TestLimitHTTPErrorBecomesStatus(t *testing.T) {
	_, c := rawPair(t, func(p *enginetest.RawConn) {
		if h := p.Next(); h != nil {
			p.Headers(h.StreamID, false, ":status", "503", "content-type", "text/html")
			_ = p.Framer.WriteData(h.StreamID, true, []byte("<p>sorry"))
			p.Next()
		}
	})
	c.Request(1, true)
	if code, message := c.Result(); code != "14" || !strings.Contains(message, "503") {
		t.Errorf("got %s %s", code, message)
	}
}

func TestLimitStatusDetailsOfAnotherCode(t *testing.T) {
	raw, err := proto.Marshal(&spb.Status{Code: 3})
	enginetest.Must(t, err)
	_, _, cc := subject.Pair(t, func(_ *enginetest.Backend, s grpc.ServerStream) error {
		s.SetTrailer(metadata.Pairs("grpc-status-details-bin", string(raw)))
		return status.Error(codes.Aborted, "m")
	})
	if _, err := enginetest.Unary(enginetest.Context(t), cc, "x"); status.Code(err) != codes.Internal {
		t.Errorf("got %v, want INTERNAL", err)
	}
}

// grpc-go replays a call that had a stream once only, and only what fits in its buffer.
func TestLimitSecondRefusalIsSeen(t *testing.T) {
	enginetest.CheckLeaks(t)
	s := subject.Start(t, enginetest.Setup{})
	var in []registry.Instance
	for _, id := range []string{"a", "b", "c"} {
		in = append(in, enginetest.Instance(id, enginetest.StartRawPeer(t, nil, enginetest.Refuse).Address))
	}
	s.Set(in...)
	if _, err := enginetest.Unary(enginetest.Context(t), enginetest.Dial(t, s.Address), "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestLimitLargeRequestIsNotReplayed(t *testing.T) {
	enginetest.CheckLeaks(t)
	b := enginetest.StartBackend(t, enginetest.Echo)
	raw := enginetest.StartRawPeer(t, nil, func(c *enginetest.RawConn) {
		h := c.Next()
		if h == nil {
			return
		}
		_ = c.Framer.WriteWindowUpdate(0, 1<<20)
		_ = c.Framer.WriteWindowUpdate(h.StreamID, 1<<20)
		for n := 0; n < 300<<10; n += len(c.Data()) {
		}
		_ = c.Framer.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
		c.Next()
	})
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("a", raw.Address), enginetest.Instance("b", b.Address))
	cc := enginetest.Dial(t, s.Address)
	failed := 0
	for range 2 { // round robin: one of them begins with the scripted peer
		_, err := enginetest.Unary(enginetest.Context(t), cc, strings.Repeat("x", 300<<10))
		if status.Code(err) == codes.Unavailable {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d calls failed, want 1", failed)
	}
}

// grpc-go takes a GOAWAY only if its last stream id is odd or 0; RFC 9113 §6.8 has no such rule. Its loop notes the error and reads on,
// so the call above the id stays where it is, and further calls follow it.
func TestLimitGoAwayWithAnEvenID(t *testing.T) {
	enginetest.CheckLeaks(t)
	had, third := make(chan struct{}, 1), make(chan uint32, 1)
	raw := enginetest.StartRawPeer(t, nil, func(c *enginetest.RawConn) {
		first := c.Next()
		enginetest.Offer(had, struct{}{})
		second := c.Next()
		if second == nil {
			return
		}
		_ = c.Framer.WriteGoAway(second.StreamID-1, http2.ErrCodeNo, nil)
		c.Answer(first.StreamID, "x")
		if h := c.Next(); h != nil {
			enginetest.Offer(third, h.StreamID)
			c.Answer(h.StreamID, "x")
		}
		c.Drain()
	})
	b := enginetest.StartBackend(t, enginetest.Echo)
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("a", raw.Address))
	client := enginetest.DialRaw(t, s.Address)
	client.Request(1, true)
	enginetest.Receive(t, had)
	began := time.Now()
	client.Request(3, true, "grpc-timeout", "500m")
	if code, _ := client.Result(); code != "0" {
		t.Errorf("the call below the id ended with %s", code)
	}
	client.Request(5, true)
	if code, _ := client.Result(); code != "0" {
		t.Errorf("a call after the GOAWAY ended with %s", code)
	}
	if id := enginetest.Receive(t, third); id != 5 {
		t.Errorf("a call after the GOAWAY has the stream %d of another connection", id)
	}
	s.Set(enginetest.Instance("a", raw.Address), enginetest.Instance("b", b.Address))
	code, message := client.Result()
	if took := time.Since(began); code != "CANCEL" && code != "4" || took < 500*time.Millisecond {
		t.Errorf("the call above the id ended with %s %s after %v, want its deadline", code, message, took)
	}
	if n := b.Calls.Load(); n != 0 {
		t.Errorf("the other peer had %d calls", n)
	}
}

func TestLimitTrailersWithoutStatus(t *testing.T) {
	if code, message := odd(t, func(p *enginetest.RawConn, id uint32) {
		p.Headers(id, false, ":status", "200", "content-type", "application/grpc")
		p.Headers(id, true, "k", "v")
	}); code != "2" {
		t.Errorf("got %s %s, want UNKNOWN", code, message)
	}
}

func TestLimitEndWithoutTrailers(t *testing.T) {
	if code, message := odd(t, func(p *enginetest.RawConn, id uint32) {
		p.Headers(id, false, ":status", "200", "content-type", "application/grpc")
		_ = p.Framer.WriteData(id, true, []byte{0, 0, 0, 0, 0})
	}); code != "13" || !strings.Contains(message, "without sending trailers") {
		t.Errorf("got %s %s, want INTERNAL", code, message)
	}
}

func TestLimitResetWithoutErrorBeforeStatus(t *testing.T) {
	if code, message := odd(t, func(p *enginetest.RawConn, id uint32) {
		_ = p.Framer.WriteRSTStream(id, http2.ErrCodeNo)
	}); code != "13" || !strings.Contains(message, "NO_ERROR") {
		t.Errorf("got %s %s, want INTERNAL", code, message)
	}
}

func TestLimitMalformedStatus(t *testing.T) {
	for name, c := range map[string]struct {
		fields        []string
		code, message string
	}{
		"out of range":                  {[]string{"grpc-status", "4294967295"}, "2", "malformed grpc-status"},
		"not a number":                  {[]string{"grpc-status", "seven"}, "2", "malformed grpc-status"},
		"twice":                         {[]string{"grpc-status", "7", "grpc-status", "9"}, "9", ""},
		"malformed percent in message":  {[]string{"grpc-status", "7", "grpc-message", "50% off%zz"}, "7", "50%25 off%25zz"},
		"message that is not all UTF-8": {[]string{"grpc-status", "7", "grpc-message", "a%E2%82"}, "7", "a%EF%BF%BD%EF%BF%BD"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, message := odd(t, func(p *enginetest.RawConn, id uint32) {
				p.Headers(id, true, append([]string{":status", "200", "content-type", "application/grpc"}, c.fields...)...)
			}); code != c.code || !strings.Contains(message, c.message) {
				t.Errorf("got %s %s, want %s %s", code, message, c.code, c.message)
			}
		})
	}
}

// grpc-go keeps the status to itself when it finds that the last message is not whole.
func TestLimitTruncatedMessage(t *testing.T) {
	for _, own := range []string{"0", "3"} {
		t.Run("grpc-status "+own, func(t *testing.T) {
			if code, message := odd(t, func(p *enginetest.RawConn, id uint32) {
				p.Headers(id, false, ":status", "200", "content-type", "application/grpc")
				_ = p.Framer.WriteData(id, false, []byte{0, 0, 0, 0, 9, 1})
				p.Headers(id, true, "grpc-status", own, "grpc-message", "mine")
			}); code != "13" {
				t.Errorf("got %s %s, want INTERNAL", code, message)
			}
		})
	}
}

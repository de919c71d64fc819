package grpcengine_test

// What this stack cannot pass. Each TestLimit… pins the present behaviour and is a row of docs/engine-grpc-limits.md; one that fails
// may well be good news.

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

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

func TestLimitTrailersWithoutStatus(t *testing.T) {
	if code, message := odd(t, func(p *rawConn, id uint32) {
		p.headers(id, false, ":status", "200", "content-type", "application/grpc")
		p.headers(id, true, "k", "v")
	}); code != "2" {
		t.Errorf("got %s %s, want UNKNOWN", code, message)
	}
}

func TestLimitEndWithoutTrailers(t *testing.T) {
	if code, message := odd(t, func(p *rawConn, id uint32) {
		p.headers(id, false, ":status", "200", "content-type", "application/grpc")
		_ = p.f.WriteData(id, true, []byte{0, 0, 0, 0, 0})
	}); code != "13" || !strings.Contains(message, "without sending trailers") {
		t.Errorf("got %s %s, want INTERNAL", code, message)
	}
}

func TestLimitResetWithoutErrorBeforeStatus(t *testing.T) {
	if code, message := odd(t, func(p *rawConn, id uint32) {
		_ = p.f.WriteRSTStream(id, http2.ErrCodeNo)
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
			if code, message := odd(t, func(p *rawConn, id uint32) {
				p.headers(id, true, append([]string{":status", "200", "content-type", "application/grpc"}, c.fields...)...)
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
			if code, message := odd(t, func(p *rawConn, id uint32) {
				p.headers(id, false, ":status", "200", "content-type", "application/grpc")
				_ = p.f.WriteData(id, false, []byte{0, 0, 0, 0, 9, 1})
				p.headers(id, true, "grpc-status", own, "grpc-message", "mine")
			}); code != "13" {
				t.Errorf("got %s %s, want INTERNAL", code, message)
			}
		})
	}
}

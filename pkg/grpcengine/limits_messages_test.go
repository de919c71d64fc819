package grpcengine_test

// What this stack cannot pass. Each TestLimit… pins the present behaviour and is a row of docs/engine-grpc-limits.md; one that fails
// may well be good news.

import (
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

func TestLimitMixedCompressedFlags(t *testing.T) {
	flags := make(chan byte, 2)
	_, c := rawPair(t, func(p *enginetest.RawConn) {
		if p.Next() == nil {
			return
		}
		flags <- p.Data()[0]
		flags <- p.Data()[0]
		p.Next()
	})
	c.Request(1, false, "grpc-encoding", "gzip")
	c.Message(1, 0, "plain, as the sender wished")
	c.Message(1, 1, enginetest.Gzipped("compressed"))
	if a, b := enginetest.Receive(t, flags), enginetest.Receive(t, flags); a != 1 || b != 1 {
		t.Errorf("the peer got the flags %d, %d: want all messages of the call compressed alike", a, b)
	}
}

func TestLimitUnknownEncodingOfRequest(t *testing.T) {
	_, c := rawPair(t, enginetest.AnswerAll("x"))
	c.Request(1, false, "grpc-encoding", "zstd")
	if code, _ := c.Result(); code != "12" {
		t.Errorf("got %s, want UNIMPLEMENTED", code)
	}
}

func TestLimitUnknownEncodingOfResponse(t *testing.T) {
	_, c := rawPair(t, func(p *enginetest.RawConn) {
		if h := p.Next(); h != nil {
			p.Headers(h.StreamID, false, ":status", "200", "content-type", "application/grpc", "grpc-encoding", "zstd")
			p.Message(h.StreamID, 1, "(zstd)")
			p.Next()
		}
	})
	c.Request(1, true, "grpc-accept-encoding", "zstd")
	if code, _ := c.Result(); code != "13" {
		t.Errorf("got %s, want INTERNAL", code)
	}
}

func TestLimitAcceptEncodingIsOurs(t *testing.T) {
	for _, accept := range []string{"identity", "zstd,br"} {
		got := enginetest.Values(ask(t, "grpc-accept-encoding", accept), "grpc-accept-encoding")
		if len(got) != 1 || got[0] != "gzip" {
			t.Errorf("the client accepts %s, the peer was told %q", accept, got)
		}
	}
}

func TestLimitPartialMessageWaits(t *testing.T) {
	got := make(chan []byte, 1)
	_, c := rawPair(t, func(p *enginetest.RawConn) {
		if p.Next() == nil {
			return
		}
		got <- p.Data()
		p.Next()
	})
	c.Request(1, false)
	enginetest.Must(t, c.Framer.WriteData(1, false, []byte{0, 0, 0, 0, 4, 'h', 'a'}))
	// A PING that is answered was read after the DATA.
	enginetest.Must(t, c.Framer.WritePing(false, [8]byte{1}))
	for acked := false; !acked; {
		f, err := c.Framer.ReadFrame()
		enginetest.Must(t, err)
		p, ok := f.(*http2.PingFrame)
		acked = ok && p.IsAck()
	}
	select {
	case b := <-got:
		t.Fatalf("the peer got %q before the message was whole", b)
	case <-time.After(50 * time.Millisecond):
	}
	enginetest.Must(t, c.Framer.WriteData(1, true, []byte("lf")))
	if b := enginetest.Receive(t, got); string(b) != "\x00\x00\x00\x00\x04half" {
		t.Errorf("the peer got %q", b)
	}
}

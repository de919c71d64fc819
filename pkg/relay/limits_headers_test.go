package relay_test

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// smallHeaders is a bound on field lists that the usual ones are far below, and tooLong a value that is beyond it.
var (
	smallHeaders = relay.Config{Limits: relay.Limits{HeaderBytes: 8192}}
	tooLong      = strings.Repeat("v", 8192)
)

// A call whose headers are too large ends; its connection goes on, with its tables in step.
func TestHeaderBytesOfRequests(t *testing.T) {
	b := newLimitBed(t, smallHeaders, nil)
	c := enginetest.DialRaw(t, b.Address)
	stream := uint32(1)
	for i, call := range []func(){
		func() { request(c, stream, true, "echo", "k", tooLong) },
		func() { // the client sends on
			request(c, stream, false, "echo", "k", tooLong)
			c.Message(stream, 0, "x")
			enginetest.Must(t, c.Framer.WriteData(stream, true, nil))
		},
		func() { inFrames(c, stream, 30_000) },
		func() { // a peer has the call
			request(c, stream, false, "echo")
			c.Headers(stream, true, "k", tooLong)
		},
	} {
		call()
		b.ends(c, stream, "8", "max_header_bytes", "8192")
		if n := b.hits("max_header_bytes"); n != uint64(i+1) {
			t.Errorf("after call %d the limit was counted %d times", i+1, n)
		}
		b.echoes(c, stream+2)
		b.unharmed()
		stream += 4
	}
	b.over("max_header_bytes", 4)
}

// A block that does not end is not read to its end.
func TestHeaderBytesOfEndlessBlock(t *testing.T) {
	b := newLimitBed(t, smallHeaders, nil)
	c := enginetest.DialRaw(t, b.Address)
	inFrames(c, 1, 1_000_000)
	toldToGo(t, c, http2.ErrCodeEnhanceYourCalm, "max_header_bytes", "8192")
	b.over("max_header_bytes", 1)
}

// inFrames writes headers of a call with a value of n octets, in HEADERS and CONTINUATION frames.
func inFrames(c *enginetest.RawConn, stream uint32, n int) {
	c.Block.Reset()
	for _, f := range flatFields(":method", "POST", ":scheme", "http", ":path", enginetest.Method, ":authority", "x",
		"k", strings.Repeat("\x01", n)) { // whose Huffman code is longer than itself
		_ = c.Encoder.WriteField(f)
	}
	block := c.Block.Bytes()
	_ = c.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block[:10_000], EndStream: true})
	for block = block[10_000:]; len(block) > 0; {
		k := min(len(block), 10_000)
		if c.Framer.WriteContinuation(stream, k == len(block), block[:k]) != nil {
			return
		}
		block = block[k:]
	}
}

// A peer whose headers are too large loses that call; its connection goes on with the others.
func TestHeaderBytesOfResponses(t *testing.T) {
	type seen struct {
		connection int
		reset      http2.ErrCode
	}
	resets := make(chan seen, 2)
	b := newLimitBed(t, smallHeaders, func(c *enginetest.RawConn) {
		for n := 0; ; n++ {
			h := c.Next()
			if h == nil {
				return
			}
			switch n {
			case 0:
				c.Respond(h.StreamID, "k", tooLong)
			case 1:
				c.Respond(h.StreamID)
				c.Message(h.StreamID, 0, "x")
				c.Headers(h.StreamID, true, "grpc-status", "0", "k", tooLong)
			default:
				c.Answer(h.StreamID, "x")
				continue
			}
			if r, ok := c.Frame().(*http2.RSTStreamFrame); ok {
				resets <- seen{c.N, r.ErrCode}
			}
		}
	})
	c := enginetest.DialRaw(t, b.Address)
	for i := range 2 {
		request(c, uint32(4*i+1), true, "raw")
		b.ends(c, uint32(4*i+1), "13", "max_header_bytes", "8192")
		if got := enginetest.Receive(t, resets); got.connection != 0 || got.reset != http2.ErrCodeProtocol {
			t.Errorf("the peer saw %+v", got)
		}
		b.unharmed()
	}
	request(c, 9, true, "raw")
	b.ends(c, 9, "0", "", "")
	if p := b.Engine.Stats(); p.Connections() != 2 {
		t.Errorf("the engine has opened more than a connection to each peer: %+v", p)
	}
	b.over("max_header_bytes", 2)
}

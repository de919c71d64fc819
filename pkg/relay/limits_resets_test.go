package relay_test

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

var fewResets = relay.Config{Limits: relay.Limits{ResetsPerSecond: 10}}

// A client that opens calls and resets them, or has them reset for what is wrong with them, is told to go. Twice the rate may come
// at once.
func TestResetsPerSecond(t *testing.T) {
	for _, tc := range []struct {
		what string
		call func(c *enginetest.RawConn, stream uint32)
	}{
		{"by the client", func(c *enginetest.RawConn, stream uint32) {
			request(c, stream, false, "echo")
			_ = c.Framer.WriteRSTStream(stream, http2.ErrCodeCancel)
		}},
		{"for malformed requests", func(c *enginetest.RawConn, stream uint32) { c.Headers(stream, true, ":method", "POST") }},
		{"for a window overrun", func(c *enginetest.RawConn, stream uint32) {
			request(c, stream, false, "echo")
			_ = c.Framer.WriteWindowUpdate(stream, 1<<31-1)
		}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			b := newLimitBed(t, fewResets, nil)
			c := enginetest.DialRaw(t, b.Address)
			stream := uint32(1)
			for range 20 {
				tc.call(c, stream)
				stream += 2
			}
			enginetest.Must(t, c.Framer.WritePing(false, [8]byte{1}))
			pong(t, c, [8]byte{1})
			if n := b.hits("max_resets_per_second"); n != 0 {
				t.Fatal("twenty at once were too many")
			}
			for range 300 {
				tc.call(c, stream)
				stream += 2
			}
			toldToGo(t, c, http2.ErrCodeEnhanceYourCalm, "max_resets_per_second", "10")
			b.over("max_resets_per_second", 1)
		})
	}
}

// What a peer resets is no fault of the client, nor is what was under way to such a call.
func TestResetsByAPeer(t *testing.T) {
	const calls = 200
	b := newLimitBed(t, fewResets, func(c *enginetest.RawConn) {
		for h := c.Next(); h != nil; h = c.Next() {
			_ = c.Framer.WriteRSTStream(h.StreamID, http2.ErrCodeCancel)
		}
	})
	c := enginetest.DialRaw(t, b.Address)
	for i := range uint32(calls) {
		request(c, 2*i+1, false, "raw")
	}
	for i := range uint32(calls) {
		c.Message(2*i+1, 0, "x")
	}
	for left := calls; left > 0; left-- {
		if r, ok := c.Frame().(*http2.RSTStreamFrame); !ok || r.ErrCode != http2.ErrCodeCancel {
			t.Fatalf("%v came while %d calls had not ended, want RST_STREAM(CANCEL)", r, left)
		}
	}
	b.echoes(c, 2*calls+1)
	b.over("max_resets_per_second", 0)
}

package relay_test

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// pong reads until the answer to a PING, and gives what came on streams before it.
func pong(t *testing.T, c *enginetest.RawConn, data [8]byte) (before []http2.Frame) {
	t.Helper()
	for {
		f, err := c.Framer.ReadFrame()
		enginetest.Must(t, err)
		if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
			if p.Data != data {
				t.Fatalf("the answer has %q, the PING had %q", p.Data, data)
			}
			return before
		}
		if f.Header().StreamID != 0 {
			before = append(before, f)
		}
	}
}

// The answer to a PING that came with a request waits for the response, but not for long: here there is none.
func TestPingBesideACallIsAnswered(t *testing.T) {
	enginetest.CheckLeaks(t)
	s, c := subject.RawPair(t, (*enginetest.RawConn).Drain)
	for i := range 20 {
		data := [8]byte{byte(i)}
		c.Request(uint32(2*i+1), false)
		enginetest.Must(t, c.Framer.WritePing(false, data))
		if before := pong(t, c, data); len(before) > 0 {
			t.Fatalf("%v came from a peer that says nothing", before)
		}
	}
	for i := range 20 {
		enginetest.Must(t, c.Framer.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel))
	}
	s.Quiet()
}

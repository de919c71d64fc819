package relay_test

import (
	"slices"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// manyFields takes an octet a field on the wire, and some hundred KiB where it is kept.
var manyFields = slices.Repeat([]string{"a", "b"}, 5000)

// A call's headers are kept too, so that they can be sent again, and they may be large. Those for which there is no room are forgotten
// once they are sent.
func TestReplayBytesOfHeaders(t *testing.T) {
	const calls, most = 100, 1 << 20
	word := make(chan struct{})
	b := newLimitBed(t, relay.Config{Limits: relay.Limits{ReplayBytes: most}}, func(c *enginetest.RawConn) {
		var streams []uint32
		for range calls {
			if h := c.Next(); h != nil {
				streams = append(streams, h.StreamID)
			}
		}
		<-word
		for _, stream := range streams {
			c.Answer(stream, "x")
		}
		c.Drain()
	})
	release := sync.OnceFunc(func() { close(word) })
	t.Cleanup(release)
	c := enginetest.DialRaw(t, b.Address)
	request(c, 1, true, "raw")
	enginetest.Eventually(t, "there is a connection to the peer", func() bool { return b.streams("raw") == 1 })
	before := flatSizeNow()
	for i := range uint32(calls) - 1 {
		request(c, 2*i+3, true, "raw", manyFields...)
	}
	enginetest.Eventually(t, "the peer has all calls", func() bool { return b.streams("raw") == calls })
	// The last of them may still be on its way through the relay, with all its fields.
	enginetest.Eventually(t, "no more is in use than a few times what is allowed", func() bool {
		return int64(flatSizeNow().live)-int64(before.live) <= 4*most
	})
	st := b.Engine.Stats()
	if st.ReplayBytes == 0 || st.ReplayBytes > most {
		t.Errorf("%d octets are kept, %d are allowed", st.ReplayBytes, most)
	}
	b.unharmed()
	hits := b.hits("max_replay_bytes")
	if hits == 0 || hits >= calls {
		t.Errorf("the limit was counted %d times", hits)
	}
	release()
	for left := calls; left > 0; {
		switch f := c.Frame().(type) {
		case nil:
			t.Fatalf("the connection is lost with %d calls open", left)
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				left--
			}
		}
	}
	b.over("max_replay_bytes", hits)
}

// One that waits ends, where there is no room for it.
func TestReplayBytesOfHeadersThatWait(t *testing.T) {
	word := make(chan struct{})
	b := newLimitBed(t, littleReplay, oneAtATime(word, make(chan int, 1)), oneStream)
	release := sync.OnceFunc(func() { close(word) })
	t.Cleanup(release)
	c := enginetest.DialRaw(t, b.Address)
	request(c, 1, true, "raw")
	enginetest.Eventually(t, "the peer has a call", func() bool { return b.streams("raw") == 1 })
	request(c, 3, true, "raw", manyFields...)
	b.ends(c, 3, "8", "max_replay_bytes", "65536")
	release()
	b.ends(c, 1, "0", "", "")
	b.over("max_replay_bytes", 1)
}

package relay_test

import (
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

const mostReplay = 64 << 10

var (
	littleReplay = relay.Config{MaxConnectionsPerPeer: 1, Limits: relay.Limits{ReplayBytes: mostReplay}}
	oneStream    = http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}
)

// oneAtATime takes one call, keeps it until release, and answers those that come then with how much DATA they had.
func oneAtATime(release <-chan struct{}, got chan<- int) func(*enginetest.RawConn) {
	return func(c *enginetest.RawConn) {
		h := c.Next()
		if h == nil {
			return
		}
		<-release
		c.Answer(h.StreamID, "x")
		_ = c.Framer.WriteWindowUpdate(0, 1<<20)
		n := 0
		for f := c.Frame(); f != nil; f = c.Frame() {
			d, ok := f.(*http2.DataFrame)
			if !ok {
				continue
			}
			n += len(d.Data())
			if d.StreamEnded() {
				c.Answer(d.StreamID, "x")
				enginetest.Offer(got, n)
				n = 0
			}
		}
	}
}

// Calls that wait for a connection are kept as long as there is room. The one for which there is none ends; what is kept of the other is
// sent when its turn comes, and a call that has a peer already goes on.
func TestReplayBytes(t *testing.T) {
	word, got := make(chan struct{}), make(chan int, 1)
	b := newLimitBed(t, littleReplay, oneAtATime(word, got), oneStream, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	release := sync.OnceFunc(func() { close(word) })
	t.Cleanup(release)
	c, other := enginetest.DialRaw(t, b.Address), enginetest.DialRaw(t, b.Address)
	request(c, 1, true, "raw")
	enginetest.Eventually(t, "the peer has a call", func() bool { return b.streams("raw") == 1 })
	_, peak := b.peak(func() {
		request(c, 3, false, "raw")
		pour(c, 3, 60_000, false)
		b.AwaitWaiting(1)
		enginetest.Eventually(t, "it is kept", func() bool { return b.Engine.Stats().ReplayBytes == 60_000 })
		request(other, 1, false, "raw")
		pour(other, 1, 10_000, false)
		b.ends(other, 1, "8", "max_replay_bytes", "65536")
		b.AwaitWaiting(1)
		b.unharmed()
		// This one has a peer.
		request(other, 3, false, "echo")
		for range 3 {
			other.Message(3, 0, string(make([]byte, 10_000)))
		}
		enginetest.Must(t, other.Framer.WriteData(3, true, nil))
		b.ends(other, 3, "0", "", "")
	})
	t.Logf("%d octets were kept at the most", peak)
	if peak > mostReplay {
		t.Errorf("%d octets were kept, %d are allowed", peak, mostReplay)
	}
	release()
	pour(c, 3, 1000, true)
	if n := enginetest.Receive(t, got); n != 61_000 {
		t.Errorf("the peer got %d octets of the call that waited, it was sent 61000", n)
	}
	b.ends(c, 3, "0", "", "")
	enginetest.Eventually(t, "nothing is kept", func() bool { return b.Engine.Stats().ReplayBytes == 0 })
	b.over("max_replay_bytes", 2)
}

// A call for which there was no room is not sent again when its peer refuses it, and says why.
func TestReplayBytesOfARefusedCall(t *testing.T) {
	word := make(chan struct{})
	b := newLimitBed(t, littleReplay, oneAtATime(word, make(chan int, 1)), oneStream)
	release := sync.OnceFunc(func() { close(word) })
	t.Cleanup(release)
	refusing := enginetest.StartRawPeer(t, nil, func(c *enginetest.RawConn) {
		for f := c.Frame(); f != nil; f = c.Frame() {
			if d, ok := f.(*http2.DataFrame); ok {
				_ = c.Framer.WriteRSTStream(d.StreamID, http2.ErrCodeRefusedStream)
			}
		}
	})
	b.add("refusing", refusing.Address)
	c, other := enginetest.DialRaw(t, b.Address), enginetest.DialRaw(t, b.Address)
	request(c, 1, true, "raw")
	enginetest.Eventually(t, "the peer has a call", func() bool { return b.streams("raw") == 1 })
	request(c, 3, false, "raw")
	pour(c, 3, 60_000, false)
	enginetest.Eventually(t, "another is kept", func() bool { return b.Engine.Stats().ReplayBytes == 60_000 })
	request(other, 1, false, "refusing")
	enginetest.Eventually(t, "the refusing peer has a call", func() bool { return b.streams("refusing") == 1 })
	pour(other, 1, 10_000, false)
	code, message := result(other, 1)
	if want := "the peer refused the call, which was too large to be kept and sent to another"; code != "14" || message != want {
		t.Errorf("the call ends with %s %q, want UNAVAILABLE %q", code, message, want)
	}
	b.unharmed()
	release()
	enginetest.Must(t, c.Framer.WriteRSTStream(3, http2.ErrCodeCancel))
	b.over("max_replay_bytes", 1)
}

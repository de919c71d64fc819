package relay_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

var fewControlFrames = relay.Config{DeadAfter: time.Minute, Limits: relay.Limits{ControlFrames: 100}}

// floodBytes is the most that a flood sends: many times what sockets hold of the answers.
const floodBytes = 64 << 20

// A client makes the engine answer and does not read: its connection is closed, and little was held.
func TestControlFramesOfAClient(t *testing.T) {
	for what, frame := range map[string][]byte{
		"PING":     appendFlat(nil, http2.FramePing, 0, 0, make([]byte, 8)),
		"SETTINGS": appendFlat(nil, http2.FrameSettings, 0, 0, []byte{0, 4, 0, 1, 0, 0}),
	} {
		t.Run(what, func(t *testing.T) {
			b := newLimitBed(t, fewControlFrames, nil)
			c, err := dialFlat("tcp", b.Address)
			enginetest.Must(t, err)
			defer c.nc.Close()
			enginetest.Must(t, c.nc.(*net.TCPConn).SetReadBuffer(4<<10))
			enginetest.Must(t, c.nc.SetDeadline(time.Now().Add(flatPatience)))
			if err := c.calls(1); err != nil {
				t.Fatal(err)
			}
			sent := 0
			held, _ := b.peak(func() { sent = flood(c.flatConn, frame) })
			b.unharmed()
			t.Logf("%d frames were sent, %d KiB were held at the most", sent/len(frame), held>>10)
			if sent >= floodBytes {
				t.Error("the flood came to its end")
			}
			if held > 256<<10 {
				t.Errorf("%d octets were held", held)
			}
			b.over("max_queued_control_frames", 1)
		})
	}
}

// flood writes a frame again and again until the connection ends, and gives how many octets it has written.
func flood(c *flatConn, frame []byte) (sent int) {
	frames := slices.Repeat(frame, 64<<10/len(frame))
	for sent < floodBytes {
		n, err := c.nc.Write(frames)
		if sent += n; err != nil {
			break
		}
	}
	return sent
}

// A peer does the same: its calls end and say why, others do not suffer.
func TestControlFramesOfAPeer(t *testing.T) {
	b := newLimitBed(t, fewControlFrames, func(c *enginetest.RawConn) {
		if c.Next() == nil {
			return
		}
		for range floodBytes / 17 {
			if c.Framer.WritePing(false, [8]byte{}) != nil {
				return
			}
		}
	})
	c := enginetest.DialRaw(t, b.Address)
	request(c, 1, false, "raw")
	held, _ := b.peak(func() { b.ends(c, 1, "14", "max_queued_control_frames", "100") })
	if held > 256<<10 {
		t.Errorf("%d octets were held", held)
	}
	b.echoes(c, 3)
	b.over("max_queued_control_frames", 1)
}

// Clients cancel calls while a peer does not read for a moment. It is not that peer that makes us write so much: its connection, and
// the others' calls on it, go on when it reads again.
func TestCancelsAreNoFlood(t *testing.T) {
	const cancels = 300
	word := make(chan struct{})
	b := newLimitBed(t, fewControlFrames, func(c *enginetest.RawConn) {
		_ = c.Framer.WriteWindowUpdate(0, 1<<30)
		h := c.Next()
		<-word
		if h != nil {
			c.Answer(h.StreamID, "x")
			c.Drain()
		}
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	proceed := sync.OnceFunc(func() { close(word) })
	t.Cleanup(proceed)
	waits, cancelling := enginetest.DialRaw(t, b.Address), enginetest.DialRaw(t, b.Address)
	request(waits, 1, false, "raw")
	enginetest.Eventually(t, "the peer has the call", func() bool { return b.streams("raw") == 1 })
	ctx, cancel := context.WithCancel(at(enginetest.Context(t), "raw"))
	fills := enginetest.Open(t, ctx, enginetest.Dial(t, b.Address))
	var filling sync.WaitGroup
	filling.Go(func() {
		m := enginetest.Message(make([]byte, 32<<10))
		for fills.SendMsg(&m) == nil {
		}
	})
	enginetest.Eventually(t, "the peer's socket is full", func() bool { return b.Engine.Stats().BufferedBytes > 64<<10 })
	for i := range uint32(cancels) {
		request(cancelling, 2*i+1, false, "raw")
		enginetest.Must(t, cancelling.Framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	enginetest.Must(t, cancelling.Framer.WritePing(false, [8]byte{1}))
	pong(t, cancelling, [8]byte{1})
	enginetest.Eventually(t, "they are cancelled", func() bool { return b.Engine.Stats().InFlight == 3 })
	b.unharmed()
	proceed()
	b.ends(waits, 1, "0", "", "")
	cancel()
	filling.Wait()
	b.over("max_queued_control_frames", 0)
}

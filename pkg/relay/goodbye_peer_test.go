package relay_test

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// leaver is a peer each of whose connections answers some calls and then says goodbye in two steps: GOAWAY with the highest id and a
// PING; when that is answered, GOAWAY with the id of the last call that it answers, in the middle of those that have come meanwhile.
type leaver struct {
	answers            int
	served, left, gone atomic.Int64 // calls answered, connections left, calls turned away
}

func (l *leaver) serve(c *enginetest.RawConn) {
	var open, whole []uint32 // calls that were not answered, and those of them whose request has ended
	answered, leaving, last := 0, false, uint32(math.MaxInt32)
	answer := func(id uint32) {
		l.served.Add(1)
		c.Answer(id, "x")
		open = slices.DeleteFunc(open, func(o uint32) bool { return o == id })
	}
	for f := frame(c); f != nil; f = frame(c) {
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.Framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			open = append(open, f.StreamID)
		case *http2.DataFrame:
			if n := uint32(len(f.Data())); n > 0 {
				_ = c.Framer.WriteWindowUpdate(0, n)
			}
			switch {
			case !f.StreamEnded() || f.StreamID > last:
			case leaving && last == math.MaxInt32:
				whole = append(whole, f.StreamID)
			default:
				answer(f.StreamID)
				if answered++; answered == l.answers {
					leaving = true
					_ = c.Framer.WriteGoAway(last, http2.ErrCodeNo, nil)
					_ = c.Framer.WritePing(false, [8]byte{'b', 'y', 'e'})
				}
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = c.Framer.WritePing(true, f.Data)
				continue
			}
			l.left.Add(1)
			if last = 2*uint32(l.answers) - 1; len(open) > 0 {
				last = open[len(open)/2] // they came in order
			}
			_ = c.Framer.WriteGoAway(last, http2.ErrCodeNo, nil)
			for _, id := range whole {
				if id <= last {
					answer(id)
				}
			}
			open = slices.DeleteFunc(open, func(id uint32) bool { return id <= last })
			l.gone.Add(int64(len(open)))
		}
	}
}

// Peers whose connections come and go with goodbyes lose no call under load, and none is run twice.
func TestGoodbyesOfPeersLoseNothing(t *testing.T) {
	enginetest.CheckLeaks(t)
	const callers, each = 16, 250
	l := &leaver{answers: 50}
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("a", enginetest.StartRawPeer(t, nil, l.serve).Address),
		enginetest.Instance("b", enginetest.StartRawPeer(t, nil, l.serve).Address))
	cc := enginetest.Dial(t, s.Address)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if got, err := enginetest.Unary(enginetest.Context(t), cc, "x"); err != nil || got != "x" {
					t.Errorf("got %q, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	s.Quiet()
	retries := s.Engine.Stats().Retries
	t.Logf("%d calls over %d goodbyes, %d turned away; retries %v", l.served.Load(), l.left.Load(), l.gone.Load(), retries)
	if n := l.served.Load(); n != callers*each {
		t.Errorf("the peers ran %d calls of %d", n, callers*each)
	}
	if l.gone.Load() == 0 || retries["unprocessed"] != uint64(l.gone.Load()) {
		t.Errorf("%d calls were turned away, %d are counted", l.gone.Load(), retries["unprocessed"])
	}
}

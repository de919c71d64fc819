package relay_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

const (
	// longPath is what a path of these tests adds in each direction.
	longPath = 25 * time.Millisecond
	// grown is the window that a stream is to have on it: 80 MiB/s.
	grown = 4 << 20
	// burst is how much is sent before the window is looked at.
	burst = 32 << 20
)

// A window of 512 KiB on a path of 50 ms is 10 MiB/s. Windows of downloads grow with the path to the peer.
func TestWindowGrowsWithThePathOfADownload(t *testing.T) {
	enginetest.CheckLeaks(t)
	var came atomic.Int64
	result := make(chan growth, 1)
	p := enginetest.StartRawPeer(t, nil, func(c *enginetest.RawConn) {
		g := greedy{c: c}
		for g.stream == 0 && g.frame() {
		}
		c.Respond(g.stream)
		result <- g.run(&came)
		c.Headers(g.stream, true, "grpc-status", "0")
		c.Drain()
	})
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("far", startLongPath(t, p.Address)))
	c := enginetest.DialRaw(t, s.Address)
	widen(t, c)
	c.Request(1, true)
	over := make(chan struct{})
	go func() {
		defer close(over)
		takeAll(c, &came)
	}()
	enginetest.Receive(t, result).check(t)
	<-over
	s.Quiet()
}

// And those of uploads with the path from the client.
func TestWindowGrowsWithThePathOfAnUpload(t *testing.T) {
	enginetest.CheckLeaks(t)
	var came atomic.Int64
	p := enginetest.StartRawPeer(t, wide, func(c *enginetest.RawConn) {
		_ = c.Framer.WriteWindowUpdate(0, 1<<30)
		takeAll(c, &came)
	})
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("near", p.Address))
	c := enginetest.DialRaw(t, startLongPath(t, s.Address))
	c.Request(1, false)
	g := greedy{c: c, stream: 1}
	g.run(&came).check(t)
	enginetest.Must(t, c.Framer.WriteRSTStream(1, http2.ErrCodeCancel))
	s.Quiet()
}

// widen gives the other side windows that never hold it up.
func widen(t *testing.T, c *enginetest.RawConn) {
	t.Helper()
	enginetest.Must(t, c.Framer.WriteSettings(wide...))
	enginetest.Must(t, c.Framer.WriteWindowUpdate(0, 1<<30))
}

// takeAll takes all DATA, until a stream ends or the connection is gone.
func takeAll(c *enginetest.RawConn, came *atomic.Int64) {
	for f := c.Frame(); f != nil; f = c.Frame() {
		switch f := f.(type) {
		case *http2.DataFrame:
			came.Add(int64(f.Length))
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				return
			}
		}
	}
}

// greedy sends as much on a stream as its windows allow.
type greedy struct {
	c            *enginetest.RawConn
	stream       uint32
	initial      int64 // SETTINGS_INITIAL_WINDOW_SIZE of the other side, with which the stream began
	window, conn int64 // what was granted beyond the initial windows, less what was sent
	sent         int64
	answers      int // to PINGs of ours
}

// growth is how the window has become in the end.
type growth struct {
	window, sent int64
	took         time.Duration
	err          error
}

func (g growth) check(t *testing.T) {
	t.Helper()
	t.Logf("the window is %d KiB after %d MiB and %v", g.window>>10, g.sent>>20, g.took.Round(time.Millisecond))
	enginetest.Must(t, g.err)
	if g.window < grown {
		t.Errorf("the window has grown to %d octets only, want %d", g.window, grown)
	}
}

// run sends bursts until the window, with nothing under way, is as large as it is to become, or no more time is left. came is how much has
// come at the other end.
func (g *greedy) run(came *atomic.Int64) growth {
	began := time.Now()
	for {
		for end := g.sent + burst; g.sent < end && time.Since(began) < enginetest.Patience/2; {
			if !g.send() && !g.frame() {
				return g.growth(began)
			}
		}
		// Credit is returned for what was passed on. So the window is whole when all has come, and one more PING, which is behind the
		// last credit, is answered.
		for last := false; ; {
			before := g.answers
			if g.c.Framer.WritePing(false, [8]byte{}) != nil {
				return g.growth(began)
			}
			for g.answers == before {
				if !g.frame() {
					return g.growth(began)
				}
			}
			if last {
				break
			}
			last = came.Load() == g.sent
		}
		if w := g.initial + g.window; w >= grown || time.Since(began) > enginetest.Patience/2 {
			return growth{window: w, sent: g.sent, took: time.Since(began)}
		}
	}
}

// growth is what there is when the connection was lost.
func (g *greedy) growth(began time.Time) growth {
	return growth{g.initial + g.window, g.sent, time.Since(began), errors.New("the connection is gone")}
}

var zeros [16 << 10]byte

// send sends one frame if the windows allow any.
func (g *greedy) send() bool {
	n := min(int64(len(zeros)), g.initial+g.window, 65535+g.conn)
	if n <= 0 {
		return false
	}
	g.window -= n
	g.conn -= n
	g.sent += n
	return g.c.Framer.WriteData(g.stream, false, zeros[:n]) == nil // empty messages, many of them
}

// frame takes what the other side says next. False means that the connection is gone.
func (g *greedy) frame() bool {
	f, err := g.c.Framer.ReadFrame()
	if err != nil {
		return false
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			v, ok := f.Value(http2.SettingInitialWindowSize)
			if g.initial = int64(v); !ok {
				g.initial = 65535
			}
			_ = g.c.Framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if f.IsAck() {
			g.answers++
		} else {
			_ = g.c.Framer.WritePing(true, f.Data)
		}
	case *http2.MetaHeadersFrame:
		if g.stream == 0 {
			g.stream = f.StreamID
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			g.conn += int64(f.Increment)
		} else {
			g.window += int64(f.Increment)
		}
	}
	return true
}

// startLongPath forwards connections to target until the test's end, and holds every octet back for longPath.
func startLongPath(t *testing.T, target string) (address string) {
	t.Helper()
	l := enginetest.Listen(t, "127.0.0.1:0")
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { forward(t.Context(), near, target, &all) })
		}
	})
	t.Cleanup(all.Wait)
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// forward ends both sides when one is gone, or the test is over.
func forward(ctx context.Context, near net.Conn, target string, all *sync.WaitGroup) {
	far, err := net.Dial("tcp", target)
	if err != nil {
		near.Close()
		return
	}
	defer context.AfterFunc(ctx, func() {
		near.Close()
		far.Close()
	})()
	all.Go(func() { late(near, far, all) })
	late(far, near, all)
}

// late passes on what comes, longPath after it came.
func late(from, to net.Conn, all *sync.WaitGroup) {
	type piece struct {
		due  time.Time
		data []byte
	}
	pieces := make(chan piece, 1<<10)
	all.Go(func() {
		defer to.Close()
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			_, _ = to.Write(p.data) // where that fails, from is soon closed too
		}
	})
	defer close(pieces)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			pieces <- piece{time.Now().Add(longPath), append([]byte(nil), buf[:n]...)}
		}
		if err != nil {
			return
		}
	}
}

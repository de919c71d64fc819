package interop_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// tap stands between a data plane and an app, passes every byte, and watches the frames.
type tap struct {
	Address string

	app     string
	l       net.Listener
	serving sync.WaitGroup

	// mu guards the fields below.
	mu     sync.Mutex
	open   []net.Conn
	closed bool
	counts tapCounts
}

// tapCounts is what a tap has seen.
type tapCounts struct {
	// Connections were opened, and Ended of them ended before the tap was closed.
	Connections, Ended int
	// GoAways came from the app.
	GoAways int
	// Pings were sent to the app, MostPings of them between two of its HEADERS or DATA frames at most: those take back the strikes
	// that a server counts against whoever sends PINGs without need (gRFC A8).
	Pings, MostPings int
}

// startTap puts a tap in front of an app until the test's end.
func startTap(t *testing.T, app string) *tap {
	l := listen(t)
	p := &tap{Address: l.Addr().String(), app: app, l: l}
	p.serving.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *tap) seen() tapCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

func (p *tap) accept() {
	for {
		plane, err := p.l.Accept()
		if err != nil {
			return
		}
		app, err := net.Dial("tcp", p.app)
		if err != nil {
			plane.Close()
			continue
		}
		p.mu.Lock()
		if p.closed {
			plane.Close()
			app.Close()
		}
		p.open = append(p.open, plane, app)
		p.counts.Connections++
		p.mu.Unlock()
		c := &tapped{tap: p}
		p.serving.Go(func() { c.pass(app, plane, c.fromPlane) })
		p.serving.Go(func() { c.pass(plane, app, c.fromApp) })
	}
}

func (p *tap) close() {
	p.l.Close()
	p.mu.Lock()
	p.closed = true
	for _, nc := range p.open {
		nc.Close()
	}
	p.mu.Unlock()
	p.serving.Wait()
}

// tapped is one connection through a tap. The tap's mu guards its fields.
type tapped struct {
	tap   *tap
	pings int // since the app's last HEADERS or DATA
	ended bool
}

// pass copies one direction until it ends, and then ends both.
func (c *tapped) pass(to, from net.Conn, look func(http2.FrameHeader)) {
	defer to.Close()
	defer from.Close()
	defer c.end()
	if to.RemoteAddr().String() == c.tap.app {
		if _, err := io.CopyN(to, from, int64(len(http2.ClientPreface))); err != nil {
			return
		}
	}
	f := http2.NewFramer(nil, io.TeeReader(from, to))
	f.SetMaxReadFrameSize(1<<24 - 1)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		c.tap.mu.Lock()
		look(frame.Header())
		c.tap.mu.Unlock()
	}
}

func (c *tapped) end() {
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	if !c.ended && !c.tap.closed {
		c.tap.counts.Ended++
	}
	c.ended = true
}

// fromPlane is called with the tap's mu held.
func (c *tapped) fromPlane(h http2.FrameHeader) {
	if h.Type == http2.FramePing && !h.Flags.Has(http2.FlagPingAck) {
		c.pings++
		c.tap.counts.Pings++
		c.tap.counts.MostPings = max(c.tap.counts.MostPings, c.pings)
	}
}

// fromApp is called with the tap's mu held.
func (c *tapped) fromApp(h http2.FrameHeader) {
	switch h.Type {
	case http2.FrameHeaders, http2.FrameData:
		c.pings = 0
	case http2.FrameGoAway:
		c.tap.counts.GoAways++
	}
}

package relay_test

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

const mostBuffered = 256 << 10

var (
	littleBuffered = relay.Config{DeadAfter: time.Minute, Limits: relay.Limits{BufferedBytes: mostBuffered}}
	shutWindows    = http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}
	openWindows    = http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}
)

// holders are streams and how much each holds. The fifth is the one too many, the second the largest.
var holders = []struct {
	stream uint32
	octets int
}{{1, 2_000}, {3, 60_000}, {5, 50_000}, {7, 50_000}, {9, 50_000}, {11, 55_000}}

const largestHolder = 3

// A client opens no window for its responses.
func TestBufferedBytesOfResponses(t *testing.T) {
	b := newLimitBed(t, littleBuffered, func(c *enginetest.RawConn) {
		for h := c.Next(); h != nil; h = c.Next() {
			n, _ := strconv.Atoi(enginetest.Values(h, "octets")[0])
			c.Respond(h.StreamID)
			pour(c, h.StreamID, n, false)
			c.Headers(h.StreamID, true, "grpc-status", "0")
		}
	})
	c := enginetest.DialRaw(t, b.Address)
	enginetest.Must(t, c.Framer.WriteSettings(shutWindows))
	b.overflows(c, func(stream uint32, n int) { request(c, stream, true, "raw", "octets", strconv.Itoa(n)) }, func() {
		enginetest.Must(t, c.Framer.WriteSettings(openWindows))
		enginetest.Must(t, c.Framer.WriteWindowUpdate(0, 1<<20))
	})
}

// A peer opens no window for its requests.
func TestBufferedBytesOfRequests(t *testing.T) {
	word, reset := make(chan struct{}), make(chan uint32, 1)
	b := newLimitBed(t, littleBuffered, func(c *enginetest.RawConn) {
		for {
			switch f := c.Frame().(type) {
			case nil:
				return
			case *http2.RSTStreamFrame:
				enginetest.Offer(reset, f.StreamID)
				<-word
				_ = c.Framer.WriteSettings(openWindows)
				_ = c.Framer.WriteWindowUpdate(0, 1<<20)
			case *http2.DataFrame:
				if f.StreamEnded() {
					c.Answer(f.StreamID, "x")
				}
			}
		}
	}, shutWindows)
	proceed := sync.OnceFunc(func() { close(word) })
	t.Cleanup(proceed)
	c := enginetest.DialRaw(t, b.Address)
	b.overflows(c, func(stream uint32, n int) {
		request(c, stream, false, "raw")
		pour(c, stream, n, true)
	}, func() {
		enginetest.Receive(t, reset) // the peer is told that the call is over
		proceed()
	})
}

// overflows has calls hold more than is allowed, checks that the largest ends, and then that the others pass once proceed lets them.
func (b *limitBed) overflows(c *enginetest.RawConn, call func(stream uint32, n int), proceed func()) {
	b.t.Helper()
	peak, _ := b.peak(func() {
		sum := 0
		for i, h := range holders {
			call(h.stream, h.octets)
			if sum += h.octets; sum <= mostBuffered {
				enginetest.Eventually(b.t, "the call holds its part", func() bool { return b.holds(sum, i+1) })
			}
			b.unharmed()
		}
		b.ends(c, largestHolder, "8", "max_buffered_bytes", strconv.Itoa(mostBuffered))
	})
	b.t.Logf("%d octets were held at the most", peak)
	if peak > mostBuffered+64<<10 {
		b.t.Errorf("%d octets were held, %d are allowed", peak, mostBuffered)
	}
	b.unharmed()
	proceed()
	results := make(map[uint32]string)
	for len(results) < len(holders)-1 {
		switch f := c.Frame().(type) {
		case nil:
			b.t.Fatalf("the connection is lost, with the results %v", results)
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				results[f.StreamID] = enginetest.Values(f, "grpc-status")[0]
			}
		}
	}
	for _, h := range holders {
		if h.stream != largestHolder && results[h.stream] != "0" {
			b.t.Errorf("the call that held %d octets ends with %q", h.octets, results[h.stream])
		}
	}
	b.over("max_buffered_bytes", 1)
}

// pour writes n octets of DATA.
func pour(c *enginetest.RawConn, stream uint32, n int, end bool) {
	for n > 0 {
		k := min(n, 10_000)
		n -= k
		if c.Framer.WriteData(stream, end && n == 0, make([]byte, k)) != nil {
			return
		}
	}
}

// A client makes calls without end and reads nothing. It is not DATA that fills its connection, but the calls' headers; no call holds
// any of it, so the connection ends. A call of another client that holds a little stays.
func TestBufferedBytesOfHeaders(t *testing.T) {
	b := newLimitBed(t, littleBuffered, func(c *enginetest.RawConn) {
		if h := c.Next(); h != nil {
			c.Respond(h.StreamID)
			pour(c, h.StreamID, 40_000, false)
			c.Headers(h.StreamID, true, "grpc-status", "0")
			c.Drain()
		}
	})
	small := enginetest.DialRaw(t, b.Address)
	enginetest.Must(t, small.Framer.WriteSettings(shutWindows))
	request(small, 1, true, "raw")
	enginetest.Eventually(t, "the small one is held", func() bool { return b.holds(40_000, 1) })
	c := b.unread("nobody")
	const most = 500_000
	calls := 0
	peak, _ := b.peak(func() {
		for calls < most && c.open(1000, false) == nil {
			calls += 1000
		}
	})
	t.Logf("%d calls were made, %d octets were held at the most", calls, peak)
	if calls >= most {
		t.Error("the client could go on")
	}
	if peak > 4*mostBuffered {
		t.Errorf("%d octets were held, %d are allowed", peak, mostBuffered)
	}
	b.unharmed()
	enginetest.Must(t, small.Framer.WriteSettings(openWindows))
	b.ends(small, 1, "0", "", "")
	b.over("max_buffered_bytes", 1)
}

// Many clients do not read. Each fills its own socket and no more, but together they are too many: those end whose sockets take nothing.
func TestBufferedBytesOfManySockets(t *testing.T) {
	const clients, most = 12, 1 << 20
	b := newLimitBed(t, relay.Config{Limits: relay.Limits{BufferedBytes: most}}, nil)
	b.add("fills", enginetest.StartBackend(t, func(_ *enginetest.Backend, s grpc.ServerStream) error {
		m := enginetest.Message(make([]byte, 32<<10))
		for {
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
	}).Address)
	for range clients {
		enginetest.Must(t, b.unread("fills").open(8, false)) // each fills one stream window
	}
	enginetest.Eventually(t, "they are too many", func() bool { return b.hits("max_buffered_bytes") > 0 })
	enginetest.Eventually(t, "no more is held than is allowed", func() bool {
		b.unharmed()
		return b.Engine.Stats().BufferedBytes <= most && b.Engine.Stats().Clients < clients
	})
	t.Logf("%d of %d clients are left", b.Engine.Stats().Clients-1, clients)
}

package relay

import "time"

// A window that is smaller than what the path holds makes a stream wait for credit in each round trip. How much the path holds is
// found much as grpc-go does it (its bdpEstimator): a PING goes out while octets come in; what has come by the time of its answer is what
// fits into one round trip. If that is a good part of the window, the window is doubled. Credit goes out in halves of a window (of
// a large one in pieces of a MiB), and the PING between two of them, so a sender that is held up by the window shows half of it, or all.
//
// An answer that was late says that the octets queued up on the way, as they do where the other side of the proxy is slower than the
// sender; a larger window would only make that queue longer. So, from largeWindow on, what has come counts for the shortest round trip
// that was seen. A path may become longer for good, so only the last two periods of leastPeriod count: a shorter round trip
// counts at once, a longer one after 20 s at most while there is enough to measure.
//
// A PING is sent only after the other side has sent a good part of a window of DATA, so a server that counts PINGs between its own
// DATA frames has nothing to count (gRFC A8).

// maxStreamWindow bounds how far a window grows: 16 MiB in 150 ms are 107 MiB/s on one stream.
const maxStreamWindow = 16 << 20

// largeWindow is what a busy stream gets in any case: credit for it goes out seldom enough.
const largeWindow = 512 << 10

var windowPing = [8]byte{'w', 'i', 'n', 'd', 'o', 'w'}

// probe is the one PING of a connection that is out to measure a window. It belongs to the connection's reader.
type probe struct {
	of   *half // nil when none is out
	came int64 // what has come on that stream since
	sent int64 // on the engine's clock
	path shortest
}

const (
	// leastPeriod and leastTrips are how long, and how many round trips, the shortest one counts before it is forgotten after as many
	// again. Fewer say too little: a queue may have been there for all of them.
	leastPeriod = int64(10 * time.Second)
	leastTrips  = 16
)

// shortest is the shortest round trip of the period under way and of the one before, in nanoseconds; 0 while there was none.
type shortest struct {
	now, before int64
	began       int64 // on the engine's clock
	trips       int   // in the period under way
}

// add takes a round trip that has just ended, and gives the shortest.
func (s *shortest) add(took, now int64) int64 {
	if s.trips >= leastTrips && now-s.began >= leastPeriod {
		*s = shortest{before: s.now}
	}
	if s.trips == 0 {
		s.now, s.began = took, now
	}
	s.trips++
	s.now = min(s.now, took)
	if s.before == 0 {
		return s.now
	}
	return min(s.now, s.before)
}

// roundTrip takes the end of the PING that is out. It gives what came on its stream meanwhile, and what of that the path's own round trip
// accounts for.
func (p *probe) roundTrip(now int64) (of *half, came, own int64) {
	of, came = p.of, p.came
	took := max(now-p.sent, 1)
	least := p.path.add(took, now)
	p.of, p.came = nil, 0
	return of, came, int64(float64(came) * float64(least) / float64(took))
}

// measure counts n octets that came on h, and sends a PING when it is time to know whether its window is large enough.
func (c *conn) measure(h *half, n int, window int64) {
	if c.probe.of == h {
		c.probe.came += int64(n)
		return
	}
	if h.unprobed += int64(n); h.unprobed < max(h.probeAfter, window/2) || c.probe.of != nil || window >= maxStreamWindow {
		return
	}
	c.probe.of, c.probe.came, c.probe.sent = h, 0, c.now
	if c.link != nil {
		c.link.pings.Add(1)
	}
	c.mu.Lock()
	c.putPing(0, windowPing)
	c.mu.Unlock()
	c.touch(c)
}

// measured is the PING's answer.
func (c *conn) measured() {
	if c.probe.of == nil {
		return
	}
	h, came, own := c.probe.roundTrip(c.now)
	h.unprobed = 0
	c.mu.Lock()
	defer c.mu.Unlock()
	want := min(max(2*came, 2*h.recvMax), maxStreamWindow)
	if own*8 < h.recvMax*3 {
		want = min(want, largeWindow)
	}
	if came*8 < h.recvMax*3 || want <= h.recvMax || c.e.buffered.Load() > c.e.cfg.Limits.BufferedBytes/2 {
		h.probeAfter = 4 * h.recvMax
		return
	}
	h.probeAfter = 0
	if h.gone || h.recvEnd {
		return
	}
	h.pay(want - h.recvMax)
	c.touch(c)
}

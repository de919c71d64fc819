package relay

// A window that is smaller than what the path holds makes a stream wait for credit in each round trip. How much the path holds is
// found as grpc-go does it (its bdpEstimator): a PING goes out while octets come in; what has come by the time of its answer is what
// fits into one round trip. If that is a good part of the window, the window is doubled. Credit goes out in halves of a window (of
// a large one in pieces of a MiB), and the PING between two of them, so a sender that is held up by the window shows half of it, or all.
//
// A PING is sent only after the other side has sent a good part of a window of DATA, so a server that counts PINGs between its own
// DATA frames has nothing to count (gRFC A8).

// maxStreamWindow bounds how far a window grows: 16 MiB in 150 ms are 107 MiB/s on one stream.
const maxStreamWindow = 16 << 20

var windowPing = [8]byte{'w', 'i', 'n', 'd', 'o', 'w'}

// probe is the one PING of a connection that is out to measure a window. It belongs to the connection's reader.
type probe struct {
	of   *half // nil when none is out
	came int64 // what has come on that stream since
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
	c.probe = probe{of: h}
	c.mu.Lock()
	c.putPing(0, windowPing)
	c.mu.Unlock()
	c.touch(c)
}

// measured is the PING's answer.
func (c *conn) measured() {
	h, came := c.probe.of, c.probe.came
	c.probe = probe{}
	if h == nil {
		return
	}
	h.unprobed = 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if came*8 < h.recvMax*3 || c.e.buffered.Load() > c.e.cfg.Limits.BufferedBytes/2 {
		h.probeAfter = 4 * h.recvMax
		return
	}
	h.probeAfter = 0
	if h.gone || h.recvEnd {
		return
	}
	h.pay(min(max(2*came, 2*h.recvMax), maxStreamWindow) - h.recvMax)
	c.touch(c)
}

package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// path is what the kernel knows of the way to the other side (tcp(7), TCP_INFO).
type path struct {
	known bool          // false where the connection is no TCP
	rtt   time.Duration // smoothed
	// sinceAck is the time since the last acknowledgement; unacked tells that one is due, retransmits how often what is due was sent
	// again, probes how many keepalive probes are unanswered.
	sinceAck    time.Duration
	unacked     bool
	retransmits int
	probes      int
	// unsent are octets that wait in the socket for the other side's window, or the path's. window is what the other side's kernel
	// offers, and taken what was acknowledged plus the window: the octet up to which we may send, which moves on when the program there
	// reads. Kernels before Linux 5.4 do not tell the window.
	unsent int
	window uint32
	taken  uint64
	// acked are the octets that were acknowledged, written those that were given to the socket, both from the same beginning.
	acked, written uint64
}

// path gives what is known.
func (c *conn) path() (p path) {
	if c.tcp == nil {
		return p
	}
	_ = c.tcp.Control(func(fd uintptr) {
		// Before TCP_INFO: what is acknowledged between the two counts twice, so written may be too large, and is never too small.
		queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		if err != nil {
			return
		}
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		p = path{
			known: true, rtt: time.Duration(info.Rtt) * time.Microsecond, sinceAck: time.Duration(info.Last_ack_recv) * time.Millisecond,
			unacked: info.Unacked > 0, retransmits: int(info.Retransmits), probes: int(info.Probes),
			unsent: int(info.Notsent_bytes), window: info.Snd_wnd, taken: info.Bytes_acked + uint64(info.Snd_wnd),
			acked: info.Bytes_acked, written: info.Bytes_acked + uint64(queued),
		}
	})
	return p
}

// maxRetransmit is the longest pause between two retransmissions.
const maxRetransmit = time.Second

// setRetransmits has what is lost retransmitted once a second at the least, so that a path that comes back is found soon: pauses that
// double reach from the third to the sixth second. Kernels before Linux 6.15 have no such option, and do without.
//
// TCP_USER_TIMEOUT, which would end the connection in the kernel, is not set on purpose: it also runs while the other side's window is
// shut (Linux, tcp_probe_timer), whatever is acknowledged or heard meanwhile, and what little a slow reader takes does not open the
// window for seconds (RFC 9293 §3.8.6.2.2). It would cut peers that are merely slow. The janitor sees the same and more (silence.go).
func setRetransmits(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(maxRetransmit.Milliseconds()))
}

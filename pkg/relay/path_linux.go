package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// path is what the kernel knows of the way to the other side (tcp(7), TCP_INFO).
type path struct {
	rtt time.Duration // smoothed
	// sinceAck is the time since the last acknowledgement; unacked tells that one is due, retransmits how often what is due was sent
	// again, probes how many keepalive probes are unanswered.
	sinceAck    time.Duration
	unacked     bool
	retransmits int
	probes      int
}

// path gives what is known; false where the connection is no TCP.
func (c *conn) path() (p path, ok bool) {
	if c.tcp == nil {
		return p, false
	}
	err := c.tcp.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		ok = true
		p = path{
			rtt: time.Duration(info.Rtt) * time.Microsecond, sinceAck: time.Duration(info.Last_ack_recv) * time.Millisecond,
			unacked: info.Unacked > 0, retransmits: int(info.Retransmits), probes: int(info.Probes),
		}
	})
	return p, ok && err == nil
}

// setUserTimeout bounds how long sent octets may stay unacknowledged (RFC 5482).
func setUserTimeout(fd uintptr, d time.Duration) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}

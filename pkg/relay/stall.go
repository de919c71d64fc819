package relay

import "time"

// The sidecar itself may stand still: it gets no processor, is stopped, or its Machine is suspended. That is no silence of the peers. What
// they have said meanwhile may lie unread in the sockets when the janitor comes back, so the time that it has missed does not count.

// lateness is by how much the janitor is late that last looked so long ago. Below one tick it is none.
func lateness(since int64) int64 {
	if since <= 2*int64(tick) {
		return 0
	}
	return since - int64(tick)
}

// pardon moves what began before the janitor was late forward by as much, and takes it off the time since the last acknowledgement.
func (l *link) pardon(now, late int64, p *path) {
	if l.pinged != 0 && l.lastHeard.Load() >= l.pinged {
		l.pinged = 0
	}
	if p.sinceAck < time.Duration(now-l.looked) { // one has come since the last look
		l.missed = 0
	}
	l.missed = min(l.missed+late, int64(p.sinceAck))
	p.sinceAck -= time.Duration(l.missed)
	if late == 0 {
		return
	}
	for _, at := range []*int64{&l.pinged, &l.arrived, &l.stuck, &l.reading, &l.suspect, &l.looked} {
		*at = later(*at, now, late)
	}
	if u := l.unanswered.Load(); u != 0 {
		l.unanswered.CompareAndSwap(u, later(u, now, late))
	}
}

// later gives the time by late later. One that is not set stays so, and what came behind the delay stays where it is.
func later(at, now, late int64) int64 {
	if at == 0 || at > now-late {
		return at
	}
	return at + late
}

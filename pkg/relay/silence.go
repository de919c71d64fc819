package relay

import (
	"errors"
	"fmt"
	"time"
)

// A peer whose Machine is gone without a word (no FIN, no RST) is found by TCP: octets that are not acknowledged, or keepalive probes.
// A peer whose kernel answers and whose process does not is found by calls that nothing answers, and then a PING that nothing
// answers. Servers that count PINGs (gRFC A8: grpc-go, grpcio and grpc-java close a connection after more than two within five
// minutes without HEADERS or DATA of their own in between) are never sent more than maxPings since their last HEADERS or DATA.
const (
	maxPings = 2
	// askAfter is how long a call may go without anything heard of the peer before it is asked; answerWithin is what it is given then.
	// With two ticks that comes to two seconds at the most.
	askAfter     = 750 * time.Millisecond
	answerWithin = 750 * time.Millisecond
	// ackWithin is how long octets may stay unacknowledged, over more than one retransmission.
	ackWithin = time.Second
	// probeWithin is how long a keepalive probe may stay unanswered, from the last acknowledgement on: keepalive begins after a second.
	probeWithin = 1500 * time.Millisecond
)

var alivePing = [8]byte{'a', 'l', 'i', 'v', 'e'}

// errSilent is the end of a connection whose peer says nothing any more.
var errSilent = errors.New("the peer is silent")

// heard notes, on the reader, that something came.
func (l *link) heard(now int64) {
	l.lastHeard.Store(now)
	if l.unanswered.Load() != 0 {
		l.unanswered.Store(0)
	}
}

// spoke notes, on the reader, that HEADERS or DATA came: the server's count of PINGs begins anew.
func (l *link) spoke() {
	if l.pings.Load() != 0 {
		l.pings.Store(0)
	}
}

// watch looks after the peer's links. It runs on the janitor.
func (pe *peer) watch(now int64) {
	pe.mu.Lock()
	links := append([]*link(nil), pe.links...)
	pe.mu.Unlock()
	for _, l := range links {
		l.watch(now)
	}
}

func (l *link) watch(now int64) {
	path, known := l.c.path()
	if known {
		l.rtt.Store(int64(path.rtt))
		if l.p.of != nil && path.rtt > 0 {
			l.p.e.cfg.Router.Measured(l.p.of, path.rtt)
		}
	}
	since := l.silentSince(now, path)
	switch {
	case since == 0 && l.suspect != 0:
		l.suspect = 0
		l.setSilent(false)
	case since != 0 && l.suspect == 0:
		l.suspect = since
		l.setSilent(true)
	}
	if l.suspect == 0 {
		return
	}
	if l.p.of != nil {
		l.p.e.cfg.Router.Refuse(l.p.of)
	}
	if now-l.suspect >= int64(l.p.e.cfg.DeadAfter) {
		l.c.sever(fmt.Errorf("%w: nothing was heard for %s", errSilent, l.p.e.cfg.DeadAfter))
	}
}

// silentSince says since when the peer is silent; 0 while it is not.
func (l *link) silentSince(now int64, path path) int64 {
	if path.unacked && path.sinceAck >= ackWithin && path.retransmits >= 2 || path.probes > 0 && path.sinceAck >= probeWithin {
		return max(now-int64(path.sinceAck), 1)
	}
	if l.pinged != 0 && l.lastHeard.Load() >= l.pinged {
		l.pinged = 0
	}
	asked := l.unanswered.Load()
	switch {
	case l.pinged != 0:
		if now-l.pinged >= int64(answerWithin) {
			return l.pinged - int64(askAfter)
		}
	case asked != 0 && now-asked >= int64(askAfter) && l.pings.Load() < maxPings:
		l.ask(now)
	}
	return 0
}

// ask sends a PING.
func (l *link) ask(now int64) {
	l.pings.Add(1)
	l.pinged = now
	c := l.c
	c.mu.Lock()
	c.putPing(0, alivePing)
	c.mu.Unlock()
	flush([]*conn{c})
}

// setSilent takes the link out of those that take calls, or puts it back.
func (l *link) setSilent(silent bool) {
	pe := l.p
	pe.mu.Lock()
	l.silent = silent
	pe.publish()
	pe.mu.Unlock()
	if pe.of == nil {
		return
	}
	log := pe.e.cfg.Logger.With("service", pe.of.Key.Service, "instance", pe.of.Key.ID, "address", pe.of.Address)
	if silent {
		log.Warn("peer is silent: new calls go elsewhere", "calls", l.streams.Load())
		return
	}
	log.Info("peer is heard again")
	pe.e.cfg.Router.Connected(pe.of)
	pe.startWaiting(nil)
}

// sever ends a connection from outside of its reader, which finds out and takes why for the reason.
func (c *conn) sever(why error) {
	c.broken.Store(&why)
	_ = c.nc.Close()
}

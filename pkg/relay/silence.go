package relay

import (
	"errors"
	"fmt"
	"time"
)

// A peer is silent when something of ours waits for it and it gives no sign of life:
//
//   - Its Machine is gone without a word (no FIN, no RST): octets or keepalive probes are not acknowledged, as TCP_INFO shows.
//   - Its kernel acknowledges and its process is stopped: a call was begun or DATA sent, nothing was heard since, and then a PING is not
//     answered. Servers that count PINGs (gRFC A8: grpc-go, grpcio and grpc-java close a connection after more than two within five
//     minutes without HEADERS or DATA of their own in between) are never sent more than maxPings since their last HEADERS or DATA.
//   - It does not read what it is sent: octets wait in our socket, and neither is anything heard nor are any taken. A server reads its
//     socket whatever its windows say (RFC 9113 §5.2.2), so one that does not for that long is as good as stopped. One that reads,
//     however slowly, is not silent, also while a PING lies behind what it has yet to read.
//
// New calls go elsewhere as long as a peer is silent. What is open on the connection goes on if the peer is heard again, and ends after
// Config.DeadAfter, counted from the last sign of life where TCP has found the silence (it may lie keepAlive.Idle before the first
// octet that was lost), and else from when something began to wait.
//
// One keepalive probe may get lost, or its answer, and the peer is well. As long as no more than that is known of a peer without calls,
// new calls go elsewhere, or to a new connection, and nothing else is made of it: the router does not back it off.
//
// A PING is waited for from when the other side's kernel has it. Until then it may lie in a queue on the way, and the path is alive as
// long as octets are acknowledged. For a process that is stopped they tell nothing, since its kernel acknowledges in its place.
//
// Other systems than Linux do not tell about the path. There a PING is waited for from when it was sent, wherever it lies, and a Machine
// that is gone is found by PINGs while calls wait for it, else by the kernel when all of keepAlive's probes are lost.
//
// What it cannot find, since PINGs are few: a process that is stopped when nothing waits for it but calls for which it has spoken
// since they were begun, or when it was already asked maxPings times since its last HEADERS or DATA. In the first case the next call
// finds it.
const (
	maxPings = 2
	// askAfter is how long something may wait without anything heard of the peer before it is asked; answerWithin is what it is given
	// then. With two ticks that comes to two seconds at the most.
	askAfter     = 700 * time.Millisecond
	answerWithin = 700 * time.Millisecond
	// ackWithin is how long octets may stay unacknowledged, over more than one retransmission.
	ackWithin = time.Second
	// probeWithin is how long a keepalive probe may stay unanswered, from the last acknowledgement on, where that is more than two round
	// trips: keepalive begins after a second.
	probeWithin = 1500 * time.Millisecond
)

var alivePing = [8]byte{'a', 'l', 'i', 'v', 'e'}

// errSilent is the end of a connection whose peer says nothing any more.
var errSilent = errors.New("the peer is silent")

// heard notes, on the reader, that something came.
func (l *link) heard(now int64) { l.lastHeard.Store(now) }

// spoke notes, on the reader, that HEADERS or DATA came: the server's count of PINGs begins anew.
func (l *link) spoke() {
	if l.pings.Load() != 0 {
		l.pings.Store(0)
	}
	l.satisfied()
}

// satisfied notes, on the reader, that the peer has answered something: what began to wait for it before needs not be asked after.
func (l *link) satisfied() {
	if u := l.unanswered.Load(); u != 0 && u <= l.c.now {
		l.unanswered.CompareAndSwap(u, 0)
	}
}

// waits notes that something was sent which the peer is to see.
func (l *link) waits(now int64) {
	if l.unanswered.Load() == 0 {
		l.unanswered.Store(now)
	}
}

// watch looks after the peer's links. It runs on the janitor.
func (pe *peer) watch(now, late int64) {
	pe.mu.Lock()
	links := append([]*link(nil), pe.links...)
	pe.mu.Unlock()
	silent := 0
	for _, l := range links {
		if l.watch(now, late) {
			silent++
		}
	}
	// As long as it has a connection that is well, calls find that one.
	if pe.of != nil && silent > 0 && silent == len(links) {
		pe.e.cfg.Router.Refuse(pe.of)
	}
}

// watch looks after the link, and tells whether its peer is silent.
func (l *link) watch(now, late int64) bool {
	path := l.c.path()
	if path.known {
		l.rtt.Store(int64(path.rtt))
		if l.p.of != nil && path.rtt > 0 {
			l.p.e.cfg.Router.Measured(l.p.of, path.rtt)
		}
	}
	return l.judge(now, late, path)
}

// judge takes what is known of the path for what it says of the peer.
func (l *link) judge(now, late int64, path path) bool {
	l.pardon(now, late, &path)
	since := l.silentSince(now, path)
	l.looked = now
	l.doubt(l.unprobed(&path))
	switch {
	case since == 0 && l.suspect != 0:
		l.suspect = 0
		l.setSilent(false)
	case since != 0 && l.suspect == 0:
		l.suspect = since
		l.setSilent(true) // and what was read too late to count has until the next look
	case l.suspect != 0 && now-l.suspect >= int64(l.p.e.cfg.DeadAfter):
		l.c.sever(fmt.Errorf("%w: nothing was heard for %s", errSilent, l.p.e.cfg.DeadAfter))
	}
	return l.suspect != 0
}

// silentSince says since when the peer is silent; 0 while it is not.
func (l *link) silentSince(now int64, path path) int64 {
	l.look(now, path)
	heard := l.lastHeard.Load()
	if l.pinged != 0 {
		l.follow(&path)
	}
	asked := l.unanswered.Load()
	switch {
	case l.lost(&path):
		return max(now-int64(path.sinceAck), 1)
	case l.stuck != 0 && now-max(l.stuck, heard) >= int64(askAfter+answerWithin):
		return max(l.stuck, heard)
	case l.pinged != 0:
		if since := max(l.arrived-int64(askAfter), l.reading); l.arrived != 0 && now-since >= int64(askAfter+answerWithin) {
			return since
		}
	case asked != 0 && now-max(asked, heard) >= int64(askAfter) && l.pings.Load() < maxPings:
		l.ask(now)
	}
	return 0
}

// lost tells whether the other side's kernel has stopped to acknowledge. While its window is shut this does not show: the window is
// probed ever more seldom, and a probe that was just sent looks like one that nobody answers.
func (l *link) lost(p *path) bool {
	switch {
	case l.shut(p):
		return false
	case p.unacked:
		return p.sinceAck >= ackWithin && p.retransmits >= 2
	}
	return l.unprobed(p) && (l.streams.Load() > 0 || p.probes > 1 && p.sinceAck >= keepAlive.Idle+keepAlive.Interval+2*p.rtt)
}

// unprobed tells whether a keepalive probe was not answered in time, and nothing else waits.
func (l *link) unprobed(p *path) bool {
	return !l.shut(p) && !p.unacked && p.unsent == 0 && p.probes > 0 && p.sinceAck >= max(probeWithin, keepAlive.Idle+2*p.rtt)
}

// look notes whether the peer takes what it is sent.
func (l *link) look(now int64, path path) {
	took := path.taken > l.taken
	l.taken, l.widest = path.taken, max(l.widest, path.window)
	if took && (path.unsent > 0 || path.window < l.widest/2) { // it has a good deal yet to read, and reads
		l.reading = now
	}
	switch {
	case took || path.unsent == 0 && !(path.unacked && l.shut(&path)):
		l.stuck = 0
	case l.stuck == 0:
		l.stuck = now
	}
}

// shut tells whether the other side's kernel takes nothing more for now.
func (l *link) shut(p *path) bool { return p.window == 0 && l.widest > 0 }

// ask sends a PING.
func (l *link) ask(now int64) {
	l.pings.Add(1)
	l.pinged, l.arrived, l.pingPlace = now, 0, 0
	c := l.c
	c.mu.Lock()
	c.putPing(0, alivePing)
	l.pingEnd = c.base + int64(len(c.out))
	c.mu.Unlock()
	flush([]*conn{c})
	path := c.path()
	l.place(&path)
}

// place finds out where the PING ends in what the socket was given, once it was. It may come out too high by what was written since.
func (l *link) place(p *path) {
	l.c.mu.Lock()
	wrote := l.c.wrote
	l.c.mu.Unlock()
	if wrote >= l.pingEnd {
		l.pingPlace = p.written
	}
}

// follow finds out whether the PING has come to the other side's kernel. It counts from the last look at which it had not.
func (l *link) follow(p *path) {
	switch {
	case l.arrived != 0:
		return
	case !p.known:
		l.arrived = l.pinged
		return
	case l.pingPlace == 0:
		l.place(p)
	}
	if l.pingPlace != 0 && (p.acked >= l.pingPlace || p.acked == p.written) {
		l.arrived = max(l.pinged, l.looked)
	}
}

// doubt takes the link out of those that take calls, or puts it back, and says nothing of the peer.
func (l *link) doubt(doubted bool) {
	if l.doubted == doubted { // only the janitor changes it
		return
	}
	pe := l.p
	pe.mu.Lock()
	l.doubted = doubted
	pe.publish()
	pe.mu.Unlock()
	if !doubted {
		pe.startWaiting(nil)
	}
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

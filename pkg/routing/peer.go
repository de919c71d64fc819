package routing

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// maxAttempts bounds how many peers one call tries once all of them are backed off.
const maxAttempts = 4

// Peer is one incarnation of an instance as its record describes it. It is made when the registry first shows it and lives until the
// registry no longer does, or shows another address, region or weight; tables share it. The exported fields never change.
type Peer struct {
	Key         registry.Key
	Incarnation string
	Address     string
	Region      string

	weight float64
	// inFlight changes with every call and has a cache line of its own, away from what every choice reads.
	_        [64]byte
	inFlight atomic.Int64
	_        [56]byte
	// backoff is nil while the peer is well. It points to values that never change.
	backoff atomic.Pointer[backoff]
	load    atomic.Pointer[loadReport]
}

// backoff says that a peer refused or lost connections and has answered nothing since.
type backoff struct {
	refusals int
	// Both in the router's time: ends is when the backoff runs out, until when the next call may try the peer, which a call that
	// tries it puts off.
	ends, until int64
}

// loadReport is a peer's smoothed load.
type loadReport struct {
	factor float64
	at     int64 // in the router's time
}

// InFlight is the number of our own calls that the peer has now.
func (p *Peer) InFlight() int { return int(p.inFlight.Load()) }

// BackedOff tells whether the peer refused or lost its last connection and has not answered a call since.
func (p *Peer) BackedOff() bool { return p.backoff.Load() != nil }

// Refuse notes a connection that was refused or broke outside of a call, so that no call has to find out.
func (r *Router) Refuse(p *Peer) { r.refused(p) }

// Connected notes a connection that was made outside of a call. The next call may try the peer at once; only an answer shows that
// it is well, since a peer that accepts and then hangs up would otherwise never be backed off.
func (r *Router) Connected(p *Peer) {
	if b := p.backoff.Load(); b != nil {
		p.backoff.CompareAndSwap(b, &backoff{refusals: b.refusals, ends: b.ends, until: r.now()})
	}
}

// tryUse tells whether a call may use the peer now. When a backoff has run out, exactly one caller gets it until the outcome of
// that one is known, or a second has passed: a peer that is still dead must not be found so by a hundred calls at once.
func (p *Peer) tryUse(now int64) bool {
	b := p.backoff.Load()
	if b == nil {
		return true
	}
	return now >= b.until && p.backoff.CompareAndSwap(b, &backoff{refusals: b.refusals, ends: b.ends, until: now + 1e9})
}

// due is when the peer may be tried again.
func (p *Peer) due() int64 {
	if b := p.backoff.Load(); b != nil {
		return b.until
	}
	return 0
}

// The reported load is old by up to an interval and measures other things than calls, so it may only tilt the choice: its
// factor is smoothed (each report counts 0.3), clamped, and forgotten when no further report comes. Our own calls in flight decide.
const (
	loadSmoothing = 0.3
	loadFactorMin = 0.5
	loadFactorMax = 2.0
	loadKept      = int64(time.Minute)
)

func (p *Peer) report(l registry.Load, now int64) {
	// Half a busy processor is neutral; an idle one draws twice as much, a full one half.
	f := math.Exp2(2*min(max(l.CPU, 0), 1) - 1)
	if old := p.load.Load(); old != nil && now-old.at < loadKept {
		f = old.factor + loadSmoothing*(f-old.factor)
	}
	p.load.Store(&loadReport{factor: min(max(f, loadFactorMin), loadFactorMax), at: now})
}

// factor is how much dearer than usual the peer's load makes it: 0.5 to 2.
func (p *Peer) factor(now int64) float64 {
	if l := p.load.Load(); l != nil && now-l.at < loadKept {
		return l.factor
	}
	return 1
}

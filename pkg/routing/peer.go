package routing

import (
	"math"
	"sync/atomic"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// maxAttempts bounds how many peers one call tries once all of them are backed off.
const maxAttempts = 4

// Peer is one incarnation of an instance at one address. It is made when the registry first shows it and lives until the
// registry no longer does; tables share it. The exported fields never change.
type Peer struct {
	Key         registry.Key
	Incarnation string
	Address     string
	Region      string

	weight   float64
	inFlight atomic.Int64
	refusals atomic.Int32
	// Both in the router's time, 0 when the peer is not backed off: backoffEnds is when the backoff runs out, backedOffUntil when
	// the next call may try it, which a call that tries it puts off.
	backoffEnds, backedOffUntil atomic.Int64
	loadFactor                  atomic.Uint64 // bits of a float64; 0: no report yet, which counts as 1
}

// InFlight is the number of our own calls that the peer has now.
func (p *Peer) InFlight() int { return int(p.inFlight.Load()) }

// BackedOff tells whether the peer refused its last connection and has not answered a call since.
func (p *Peer) BackedOff() bool { return p.refusals.Load() > 0 }

// Refuse notes a refused connection outside of a call, so that no call has to find out.
func (r *Router) Refuse(p *Peer) { r.refused(p) }

// Accept notes an accepted connection outside of a call.
func (r *Router) Accept(p *Peer) { r.answered(p) }

// tryUse tells whether a call may use the peer now. When a backoff has run out, exactly one caller gets it until the outcome of
// that one is known, or a second has passed: a peer that is still dead must not be found so by a hundred calls at once.
func (p *Peer) tryUse(now int64) bool {
	until := p.backedOffUntil.Load()
	if until == 0 {
		return true
	}
	return now >= until && p.backedOffUntil.CompareAndSwap(until, now+1e9)
}

// The reported load is old by up to an interval and measures other things than calls, so it may only tilt the choice: its
// factor is smoothed (each report counts 0.3) and clamped. Our own calls in flight decide.
const (
	loadSmoothing = 0.3
	loadFactorMin = 0.5
	loadFactorMax = 2.0
)

func (p *Peer) report(l registry.Load) {
	// Half a busy processor is neutral; an idle one draws twice as much, a full one half.
	f := math.Exp2(2*min(max(l.CPU, 0), 1) - 1)
	if old := p.factor(); p.loadFactor.Load() != 0 {
		f = old + loadSmoothing*(f-old)
	}
	p.loadFactor.Store(math.Float64bits(min(max(f, loadFactorMin), loadFactorMax)))
}

func (p *Peer) factor() float64 {
	if bits := p.loadFactor.Load(); bits != 0 {
		return math.Float64frombits(bits)
	}
	return 1
}

package routing

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// The policies. The names with "Strategy" are those of the in-app discovery that flyproxy takes the place of.
const (
	RoundRobin       = "round_robin"
	LeastConnections = "least_connections"
	WeightedLoad     = "weighted_load"
)

// Policies are the names that Config.Policy may have.
func Policies() []string { return []string{RoundRobin, LeastConnections, WeightedLoad} }

// policy chooses among the peers of one tier. It returns nil when none of them can be used for this call.
type policy interface {
	name() string
	pick(t *tier, c *Call, now int64) *Peer
}

func newPolicy(name string) (policy, error) {
	switch name {
	case RoundRobin:
		return roundRobin{}, nil
	case LeastConnections:
		return leastConnections{}, nil
	case WeightedLoad:
		return weightedLoad{}, nil
	}
	return nil, fmt.Errorf("unknown routing policy %q: it is one of %s", name, strings.Join(Policies(), ", "))
}

// usable tells whether the call may go to p now.
func usable(p *Peer, c *Call, now int64) bool { return !c.hasTried(p) && p.tryUse(now) }

// scan returns the first usable peer from index start on, round the end.
func scan(t *tier, start int, c *Call, now int64) *Peer {
	n := len(t.peers)
	for i := range n {
		if p := t.peers[(start+i)%n]; usable(p, c, now) {
			return p
		}
	}
	return nil
}

type roundRobin struct{}

func (roundRobin) name() string { return RoundRobin }

func (roundRobin) pick(t *tier, c *Call, now int64) *Peer {
	if len(t.peers) == 0 {
		return nil
	}
	return scan(t, int(uint64(t.next.Add(1))%uint64(len(t.peers))), c, now)
}

type leastConnections struct{}

func (leastConnections) name() string { return LeastConnections }

func (leastConnections) pick(t *tier, c *Call, now int64) *Peer {
	n := len(t.peers)
	if n < 2 {
		return scan(t, 0, c, now)
	}
	i := rand.IntN(n)
	j := rand.IntN(n - 1)
	if j >= i {
		j++
	}
	return better(t, i, j, c, now, func(p *Peer) float64 { return float64(p.inFlight.Load()) })
}

type weightedLoad struct{}

func (weightedLoad) name() string { return WeightedLoad }

func (weightedLoad) pick(t *tier, c *Call, now int64) *Peer {
	n := len(t.peers)
	if n < 2 {
		return scan(t, 0, c, now)
	}
	// Both candidates are drawn by weight and reported load, and both count again when our own calls in flight are compared, so a
	// full peer of double weight holds double the calls. With nothing in flight the first draw stands: reports that hardly differ
	// must not send every sidecar's calls to the same peer.
	i := drawByLoad(t, now)
	j := drawByLoad(t, now)
	if i == j {
		j = (i + 1 + rand.IntN(n-1)) % n
	}
	return better(t, i, j, c, now, func(p *Peer) float64 {
		return float64(p.inFlight.Load()) * p.factor(now) / p.weight
	})
}

// drawByLoad draws a peer by weight. One that reports to be more than half busy is taken with a chance of one to a half only; after
// a few draws it takes what it has.
func drawByLoad(t *tier, now int64) int {
	i := t.byWeight.draw()
	for range 3 {
		if f := t.peers[i].factor(now); f <= 1 || rand.Float64()*f <= 1 {
			break
		}
		i = t.byWeight.draw()
	}
	return i
}

// better takes the one of two candidates that costs less: the power of two choices (Mitzenmacher 2001). Comparing two random
// peers instead of all keeps sidecars with the same old numbers from running to the same peer. The dearer one serves when the
// other cannot be used, and any other when neither can.
func better(t *tier, i, j int, c *Call, now int64, cost func(*Peer) float64) *Peer {
	a, b := t.peers[i], t.peers[j]
	if cost(b) < cost(a) {
		a, b = b, a
	}
	if usable(a, c, now) {
		return a
	}
	if usable(b, c, now) {
		return b
	}
	return scan(t, i, c, now)
}

package routing

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// table is everything that Route needs, derived from one view. It never changes, but for the counters in its tiers.
type table struct {
	services map[string]*service
	// byGRPC maps a gRPC service name to the service whose instances registered it.
	byGRPC map[string]string
}

type service struct {
	name  string
	byID  map[string]*Peer
	tiers []tier
	// draining are the ids that take no new calls.
	draining map[string]bool
	// excluded are the ids that get no calls from us, and why.
	excluded map[string]string
	// known counts all instances, healthy or not, and inRegion those of our region.
	known, inRegion int
	// use outlives the table.
	use *usage
}

type usage struct {
	called atomic.Bool
	asked  atomic.Uint64
	// start is a random number: where in a long list of peers this process begins.
	start uint32
}

// offset is the place at which to begin in a list of n, always the same one as long as n is.
func (u *usage) offset(n int) int { return int(u.start % uint32(n)) }

// tier holds the peers between which distance makes no difference.
type tier struct {
	region   string
	reason   Reason
	peers    []*Peer
	byWeight alias
	next     *atomic.Uint64
}

// touch notes that the service was called, for Wanted.
func (s *service) touch() {
	if !s.use.called.Load() {
		s.use.called.Store(true)
	}
}

// leastBackedOff is, among the peers that have not been tried for this call, the one whose backoff ends first.
func (s *service) leastBackedOff(c *Call) *Peer {
	var best *Peer
	for i := range s.tiers {
		for _, p := range s.tiers[i].peers {
			if !c.hasTried(p) && (best == nil || p.due() < best.due()) {
				best = p
			}
		}
	}
	return best
}

// Update puts a view in force. Peers whose record is as before, but for its state, keep what is known of them.
func (r *Router) Update(v *registry.View) {
	excluded := r.exclude(v)
	for _, p := range r.swap(v, excluded) {
		for _, f := range r.onRemove {
			f(p)
		}
	}
}

// swap builds and stores the new table and returns the peers that went.
func (r *Router) swap(v *registry.View, excluded map[registry.Key]Exclusion) (gone []*Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.table.Load()
	next := &table{services: make(map[string]*service), byGRPC: make(map[string]string)}
	peers := make(map[registry.Key]*Peer, len(v.Entries))
	grouped := make(map[string][]*Peer)
	for i := range v.Entries {
		in := &v.Entries[i].Instance
		svc := next.services[in.Service]
		if svc == nil {
			svc = &service{name: in.Service, byID: make(map[string]*Peer), draining: make(map[string]bool),
				excluded: make(map[string]string), use: &usage{start: rand.Uint32()}}
			if o := old.services[in.Service]; o != nil {
				svc.use = o.use
			}
			next.services[in.Service] = svc
		}
		svc.known++
		if in.Region == r.cfg.Region {
			svc.inRegion++
		}
		if x, ok := excluded[in.Key()]; ok {
			svc.excluded[in.ID] = x.Why
			continue
		}
		for _, name := range in.GRPCServices {
			r.claimGRPC(next, name, in.Service)
		}
		if in.State != registry.Serving {
			svc.draining[in.ID] = true
			// It finishes what it has; keep the peer, so that its calls in flight are not cut, but offer it to nobody.
			if p := r.peers[in.Key()]; p != nil && p.Incarnation == in.Incarnation && p.Address == in.Address {
				peers[in.Key()] = p
			}
			continue
		}
		p := r.peer(in)
		peers[p.Key] = p
		svc.byID[p.Key.ID] = p
		grouped[in.Service] = append(grouped[in.Service], p)
	}
	for name, svc := range next.services {
		svc.tiers = r.tiers(grouped[name], old.services[name])
	}
	for key, p := range r.peers {
		if peers[key] != p {
			gone = append(gone, p)
		}
	}
	r.peers = peers
	r.table.Store(next)
	return gone
}

// peer gives the peer of an instance: the one that we have if it is still the same process at the same place, else a new one.
func (r *Router) peer(in *registry.Instance) *Peer {
	p := r.peers[in.Key()]
	if p != nil && p.Incarnation == in.Incarnation && p.Address == in.Address && p.Region == in.Region &&
		p.weight == float64(in.EffectiveWeight()) {
		return p
	}
	return &Peer{Key: in.Key(), Incarnation: in.Incarnation, Address: in.Address, Region: in.Region, weight: float64(in.EffectiveWeight())}
}

// claimGRPC notes which service answers a gRPC service name. Where several do, our own wins, else the first by name: a choice
// that every sidecar makes alike. A route or the service header overrules it.
func (r *Router) claimGRPC(t *table, grpcName, svc string) {
	have, ok := t.byGRPC[grpcName]
	if !ok || svc == r.cfg.Service || (have != r.cfg.Service && svc < have) {
		t.byGRPC[grpcName] = svc
	}
}

// tiers sorts peers by region: ours, then by distance, then those whose distance is unknown, then ourselves.
func (r *Router) tiers(peers []*Peer, old *service) []tier {
	const self = "\x00self"
	byRegion := make(map[string][]*Peer)
	for _, p := range peers {
		group := p.Region
		switch isSelf := slices.Contains(r.cfg.Self, p.Key); {
		case isSelf && r.cfg.SelfMode == SelfNever:
			continue
		case isSelf && r.cfg.SelfMode == SelfLast:
			group = self
		case !r.cfg.PreferRegion || r.cfg.Region == "":
			group = ""
		}
		byRegion[group] = append(byRegion[group], p)
	}
	out := make([]tier, 0, len(byRegion))
	for region, ps := range byRegion {
		slices.SortFunc(ps, func(a, b *Peer) int { return strings.Compare(a.Key.ID, b.Key.ID) })
		t := tier{region: region, peers: ps, byWeight: newAlias(ps), reason: ReasonNearest}
		switch {
		case region == self:
			t.reason = ReasonSelf
		case !r.cfg.PreferRegion || r.cfg.Region == "":
			t.reason = ReasonAnyRegion
		case region == r.cfg.Region:
			t.reason = ReasonSameRegion
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b tier) int {
		return cmp.Or(cmp.Compare(r.rank(a), r.rank(b)), strings.Compare(a.region, b.region))
	})
	keepTurns(out, old)
	return out
}

// rank orders tiers; between regions it is the round-trip time in ms, as measured or else as the distance lets expect. The caller
// holds mu.
func (r *Router) rank(t tier) float64 {
	const unknown, last = 1e9, 2e9
	switch t.reason {
	case ReasonSelf:
		return last
	case ReasonSameRegion, ReasonAnyRegion:
		return -1
	}
	if rtt, ok := r.rtts[t.region]; ok {
		return rtt.Seconds() * 1e3
	}
	if r.cfg.Distance != nil {
		if km, ok := r.cfg.Distance(t.region); ok {
			return expectedRTT(km)
		}
	}
	return unknown
}

// expectedRTT is about what a distance in km costs, in ms: light in fibre does 200 km a ms, there and back, on a way that is longer
// than the straight line by half.
func expectedRTT(km float64) float64 { return km * 2 * 1.5 / 200 }

// keepTurns carries the turns of round robin over from the old tiers. A new tier begins anywhere, so that a thousand sidecars that
// start together do not all begin with the same peer.
func keepTurns(tiers []tier, old *service) {
	for i := range tiers {
		if old != nil {
			if j := slices.IndexFunc(old.tiers, func(o tier) bool { return o.region == tiers[i].region }); j >= 0 {
				tiers[i].next = old.tiers[j].next
				continue
			}
		}
		tiers[i].next = new(atomic.Uint64)
		tiers[i].next.Store(uint64(rand.Uint32()))
	}
}

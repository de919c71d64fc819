package routing

import (
	"math/rand/v2"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// PeerStatus is our own view of one peer, for status pages.
type PeerStatus struct {
	InFlight  int
	BackedOff bool
	Refusals  int
}

// Peers gives the status of every known peer.
func (r *Router) Peers() map[registry.Key]PeerStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := make(map[registry.Key]PeerStatus, len(r.peers))
	for k, p := range r.peers {
		st := PeerStatus{InFlight: p.InFlight()}
		if b := p.backoff.Load(); b != nil {
			st.BackedOff, st.Refusals = true, b.refusals
		}
		m[k] = st
	}
	return m
}

// Known lists the peers.
func (r *Router) Known() []*Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*Peer, 0, len(r.peers))
	for _, p := range r.peers {
		out = append(out, p)
	}
	return out
}

// Wanted names the peers, most of them at the most, whose load the next choices depend on: those of the nearest tier of each
// service that was called. Only weighted_load looks at loads.
func (r *Router) Wanted(most int) []registry.Key {
	if r.policy.name() != WeightedLoad {
		return nil
	}
	var keys []registry.Key
	for _, svc := range r.table.Load().services {
		if !svc.use.called.Load() || len(svc.tiers) == 0 {
			continue
		}
		peers := svc.tiers[0].peers
		// More peers than may be asked for are asked about in turns.
		start := int(svc.use.asked.Add(uint64(most)) % uint64(len(peers)))
		for i := range min(len(peers), most) {
			keys = append(keys, peers[(start+i)%len(peers)].Key)
		}
	}
	if len(keys) > most {
		rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	}
	return keys[:min(len(keys), most)]
}

// Report takes loads that a beat brought.
func (r *Router) Report(loads []registry.LoadReport) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range loads {
		if p := r.peers[l.Key]; p != nil {
			p.report(l.Load, now)
		}
	}
}

// Likely names the peers, most of them at the most, to which the next calls are likely to go: those of the nearest tier of each
// service that was called, which are not backed off. Whoever keeps connections opens them ahead of the calls.
func (r *Router) Likely(most int) []*Peer {
	var out []*Peer
	for _, svc := range r.table.Load().services {
		if !svc.use.called.Load() || len(svc.tiers) == 0 {
			continue
		}
		peers := svc.tiers[0].peers
		start := svc.use.offset(len(peers))
		for i := range peers {
			if len(out) == most {
				return out
			}
			if p := peers[(start+i)%len(peers)]; !p.BackedOff() {
				out = append(out, p)
			}
		}
	}
	return out
}

// Measured notes the round-trip time to a peer. Regions other than our own are ordered by it, from the next Update on, in place of
// their distance; the mean is smoothed with a weight of 1/8, as TCP does with its own (RFC 6298 §2.3).
func (r *Router) Measured(p *Peer, rtt time.Duration) {
	if p.Region == r.cfg.Region || rtt <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.rtts[p.Region]; ok {
		rtt = old + (rtt-old)/8
	}
	r.rtts[p.Region] = rtt
}

package relay

import (
	"time"

	"github.com/flyproxy/flyproxy/pkg/engine"
)

// Stats gives the engine's state.
func (e *Engine) Stats() engine.Stats {
	st := engine.Stats{
		InFlight: e.inFlight.Load(), Clients: int(e.clients.Load()), BufferedBytes: e.buffered.Load(),
		ReplayBytes: max(0, e.replay.Load()), // one reader's batch may have let go of what another's has not yet counted
		Limits:      make(map[string]uint64, limits), Retries: make(map[string]uint64, reasons),
	}
	for i, name := range limitNames {
		st.Limits[name] = e.hits[i].Load()
	}
	for i, name := range reasonNames {
		st.Retries[name] = e.retries[i].Load()
	}
	e.pool.peers.Range(func(_, v any) bool {
		if p := v.(*peer).stats(); p.Ready+p.Connecting+p.Failed+p.Silent > 0 {
			st.Peers = append(st.Peers, p)
		}
		return true
	})
	return st
}

func (pe *peer) stats() engine.PeerConnections {
	p := engine.PeerConnections{Key: pe.of.Key, Region: pe.of.Region, Address: pe.of.Address, Waiting: int(pe.waiters.Load())}
	pe.mu.Lock()
	defer pe.mu.Unlock()
	for _, l := range pe.links {
		if l.silent {
			p.Silent++
		} else {
			p.Ready++
		}
		p.Streams += int(l.streams.Load())
		p.RTT = max(p.RTT, time.Duration(l.rtt.Load()))
	}
	switch {
	case pe.dialing:
		p.Connecting = 1
	case len(pe.links) == 0 && pe.failures > 0 && !pe.removed:
		p.Failed = 1
	}
	return p
}

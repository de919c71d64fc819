package relay

import (
	"time"

	"github.com/flyproxy/flyproxy/pkg/engine"
)

// Stats gives the engine's state.
func (e *Engine) Stats() engine.Stats {
	st := engine.Stats{InFlight: e.inFlight.Load()}
	e.pool.peers.Range(func(_, v any) bool {
		pe := v.(*peer)
		p := engine.PeerConnections{Key: pe.of.Key, Region: pe.of.Region, Address: pe.of.Address}
		if links := pe.ready.Load(); links != nil {
			for _, l := range *links {
				p.Ready++
				p.Streams += int(l.streams.Load())
			}
		}
		p.Streams += int(pe.waiters.Load())
		pe.mu.Lock()
		if pe.dialing {
			p.Connecting = 1
		}
		pe.mu.Unlock()
		if p.Ready+p.Connecting > 0 {
			st.Peers = append(st.Peers, p)
		}
		return true
	})
	return st
}

// sweep closes the connections to peers that were not used for IdleTimeout.
func (p *pool) sweep(now time.Time) {
	before := now.Add(-p.e.cfg.IdleTimeout).UnixNano()
	p.peers.Range(func(k, v any) bool {
		pe := v.(*peer)
		if pe.used.Load() >= before || pe.waiters.Load() > 0 {
			return true
		}
		if links := pe.ready.Load(); links != nil {
			for _, l := range *links {
				if l.streams.Load() > 0 {
					return true
				}
			}
		}
		pe.closeIdle()
		return true
	})
}

package relay

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/flyproxy/flyproxy/pkg/routing"
)

// pool holds the connections to all peers.
type pool struct {
	e     *Engine
	peers sync.Map // *routing.Peer → *peer
}

func (p *pool) peer(of *routing.Peer) *peer {
	if v, ok := p.peers.Load(of); ok {
		return v.(*peer)
	}
	pe := &peer{e: p.e, of: of, dial: p.e.dialer(of.Address)}
	pe.used.Store(p.e.clock())
	v, _ := p.peers.LoadOrStore(of, pe)
	return v.(*peer)
}

// take gives the call to one of the peer's connections, or lets it wait for one.
func (p *pool) take(s *stream, of *routing.Peer, c *conn) verdict {
	for {
		if v := p.peer(of).take(s, c); v != swept {
			return v
		}
	}
}

// locked gives the peer with its mu held.
func (p *pool) locked(of *routing.Peer) *peer {
	for {
		pe := p.peer(of)
		pe.mu.Lock()
		if !pe.swept {
			return pe
		}
		pe.mu.Unlock()
	}
}

// remove closes the connections to a peer that the registry no longer shows, once their calls have ended. Calls that wait for one go
// elsewhere.
func (p *pool) remove(of *routing.Peer) {
	pe := p.locked(of)
	pe.used.Store(p.e.clock())
	pe.removed = true
	waiting := pe.takeWaiting(len(pe.waiting))
	pe.mu.Unlock()
	for _, s := range waiting {
		s.again(nil, outcomeOfOurs, reasonNotSent)
	}
	pe.closeAll()
}

// closeAll has all links closed as soon as they have no calls.
func (pe *peer) closeAll() {
	pe.mu.Lock()
	links := append([]*link(nil), pe.links...)
	pe.mu.Unlock()
	for _, l := range links {
		l.leave()
	}
}

// maxWarm bounds how many peers are kept connected without a call.
const maxWarm = 64

// tend does what is due for the peers now and then. late is by how much it is late.
func (p *pool) tend(now, late int64) {
	likely := make(map[*routing.Peer]bool)
	for _, of := range p.e.cfg.Router.Likely(maxWarm) {
		likely[of] = true
		p.peer(of).warm(now)
	}
	p.peers.Range(func(k, v any) bool {
		pe := v.(*peer)
		pe.watch(now, late)
		if pe.waiters.Load() > 0 {
			pe.reconsider(now)
		}
		p.sweep(pe, now, likely[pe.of])
		return true
	})
}

// warm opens a connection to a peer that the next calls are likely to go to, so that none of them waits for it.
func (pe *peer) warm(now int64) {
	pe.mu.Lock()
	dial := len(pe.links) == 0 && !pe.dialing && !pe.removed && !pe.swept && now >= pe.nextDial
	pe.dialing = pe.dialing || dial
	pe.mu.Unlock()
	if dial {
		pe.startDial()
	}
}

// sweep closes connections that were not used for IdleTimeout, and forgets peers that have none. One connection to a peer that calls
// are likely to go to stays.
func (p *pool) sweep(pe *peer, now int64, likely bool) {
	before := now - int64(p.e.cfg.IdleTimeout)
	pe.mu.Lock()
	var idle []*link
	for i, l := range pe.links {
		if (i > 0 || !likely) && !l.leaving && l.streams.Load() == 0 && l.lastUsed.Load() < before {
			idle = append(idle, l)
		}
	}
	if len(pe.links) == 0 && !pe.dialing && len(pe.waiting) == 0 && !likely && pe.used.Load() < before {
		pe.swept = true
		p.peers.CompareAndDelete(pe.of, pe)
	}
	pe.mu.Unlock()
	for _, l := range idle {
		l.leave()
	}
}

// jitter varies a time by a quarter, so that many who lost the same peer do not all come back at once.
func jitter(d time.Duration) int64 {
	return int64(d)*7/8 + rand.Int64N(int64(d)/4+1)
}

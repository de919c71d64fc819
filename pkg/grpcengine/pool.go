package grpcengine

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// pool holds the connections to all peers.
type pool struct {
	cfg *Config
	// cc is set before the first pick.
	cc atomic.Pointer[balancer.ClientConn]

	peers sync.Map // *routing.Peer → *peer

	// redials counts the timers that are set.
	redials sync.WaitGroup

	// mu guards the fields below. A peer's mu may be held when it is locked, never the other way round.
	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
}

func newPool(cfg *Config) *pool { return &pool{cfg: cfg, conns: make(map[*conn]struct{})} }

// attach is called by the balancer before the first pick.
func (p *pool) attach(cc balancer.ClientConn) {
	p.cc.Store(&cc)
	wake(cc)
}

type verdict uint8

const (
	retry verdict = iota // look again
	connected
	wait
	busy // it has no room now, or is not to be connected to yet
	refused
	gone // the registry no longer shows the peer
)

// connect finds a connection for an attempt, and counts a stream on it when there is one. Otherwise the attempt waits in the peer's
// queue, for a connection that is being opened or for room, or its peer has refused. grpc-go is never given a connection without
// room: its own queue for one knows of no other.
func (p *pool) connect(a *attempt) (*conn, balancer.SubConn, verdict) {
	for {
		pe := p.peer(a.pick.Peer)
		if a.link != nil {
			pe = a.link.peer
		}
		now := time.Now().UnixNano()
		pe.lastUsed.Store(now)
		if l, c := pe.free(); l != nil {
			l.lastUsed.Store(now)
			return c, l.sub, connected
		}
		l, todo, v := pe.choose(a)
		switch todo {
		case open:
			l.open()
		case dial:
			l.sub.Connect()
		}
		if v != retry {
			return nil, nil, v
		}
	}
}

func (p *pool) peer(of *routing.Peer) *peer {
	if v, ok := p.peers.Load(of); ok {
		return v.(*peer)
	}
	v, _ := p.peers.LoadOrStore(of, &peer{pool: p, of: of})
	return v.(*peer)
}

// remove closes the connections to a peer that the registry no longer shows. Shutdown lets their calls end: grpc-go drains the
// connection of a SubConn that its balancer gives up (addrConn.tearDown with errConnDrain).
func (p *pool) remove(of *routing.Peer) {
	pe := p.peer(of)
	pe.lastUsed.Store(time.Now().UnixNano())
	pe.close(true)
}

// sweep closes what has not been used for IdleTimeout.
func (p *pool) sweep(now time.Time) {
	before := now.Add(-p.cfg.IdleTimeout).UnixNano()
	p.peers.Range(func(k, v any) bool {
		pe := v.(*peer)
		if pe.lastUsed.Load() < before && pe.waiting.Load() == 0 && pe.streams() == 0 {
			p.peers.CompareAndDelete(k, v)
			pe.close(false)
			return true
		}
		for _, s := range pe.idleExtras(before) {
			s.Shutdown()
		}
		return true
	})
}

// stats counts.
func (p *pool) stats() []engine.PeerConnections {
	var out []engine.PeerConnections
	p.peers.Range(func(_, v any) bool {
		pe := v.(*peer)
		s := engine.PeerConnections{Key: pe.of.Key, Region: pe.of.Region, Address: pe.of.Address, Streams: int(pe.streams()),
			Waiting: int(pe.waiting.Load())}
		pe.mu.Lock()
		empty := len(pe.links) == 0
		for _, l := range pe.links {
			switch l.state {
			case connectivity.Ready:
				s.Ready++
			case connectivity.Connecting:
				s.Connecting++
			case connectivity.TransientFailure:
				s.Failed++
			case connectivity.Idle:
				s.Idle++
			}
		}
		pe.mu.Unlock()
		if !empty {
			out = append(out, s)
		}
		return true
	})
	return out
}

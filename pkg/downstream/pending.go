package downstream

import (
	"container/heap"
	"container/list"
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/flyproxy/flyproxy/pkg/fly"
)

// handshake is one that is under way.
type handshake struct {
	nc   net.Conn
	ctx  context.Context // ends with end, or with the listener
	end  context.CancelFunc
	from netip.Prefix
	seq  uint64        // rises with each
	at   *list.Element // in its network's list; nil once it is out, either way
	out  bool          // it had to go
}

// pending are the handshakes that are under way, of all listeners. Their number is bounded, and whoever takes most of it makes room: the
// oldest one of the network that has the most gives way to a new one. So neither one client that floods the gate keeps others out,
// nor do those that are there already. Its methods may be called concurrently.
type pending struct {
	limit int

	// mu guards the fields below, and at and out of each handshake.
	mu       sync.Mutex
	n        int
	seq      uint64
	networks map[netip.Prefix]*network
	most     byNumber
}

// network are the handshakes of clients of one network, the oldest first.
type network struct {
	prefix netip.Prefix
	all    list.List // of *handshake
	index  int       // in the heap
}

func newPending(limit int) *pending {
	return &pending{limit: limit, networks: make(map[netip.Prefix]*network)}
}

// enter takes a handshake in. Where there are too many now, another one is out: the caller ends what it gives.
func (p *pending) enter(h *handshake) (out *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	h.seq = p.seq
	n := p.networks[h.from]
	if n == nil {
		n = &network{prefix: h.from}
		p.networks[h.from] = n
		h.at = n.all.PushBack(h)
		heap.Push(&p.most, n)
	} else {
		h.at = n.all.PushBack(h)
		heap.Fix(&p.most, n.index)
	}
	if p.n++; p.n <= p.limit {
		return nil
	}
	out = p.most[0].oldest()
	p.removeLocked(out)
	out.out = true
	return out
}

// leave is called once a handshake has ended, before its connection is given away. It tells whether it had to go meanwhile.
func (p *pending) leave(h *handshake) (wasOut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.at != nil {
		p.removeLocked(h)
	}
	return h.out
}

// removeLocked is called with the lock held.
func (p *pending) removeLocked(h *handshake) {
	n := p.networks[h.from]
	n.all.Remove(h.at)
	h.at = nil
	p.n--
	if n.all.Len() > 0 {
		heap.Fix(&p.most, n.index)
		return
	}
	heap.Remove(&p.most, n.index)
	delete(p.networks, n.prefix)
}

func (n *network) oldest() *handshake { return n.all.Front().Value.(*handshake) }

// byNumber is a heap with the network that has the most handshakes first; of several, the one that has the oldest.
type byNumber []*network

func (b byNumber) Len() int { return len(b) }

func (b byNumber) Less(i, j int) bool {
	if x, y := b[i].all.Len(), b[j].all.Len(); x != y {
		return x > y
	}
	return b[i].oldest().seq < b[j].oldest().seq
}

func (b byNumber) Swap(i, j int) {
	b[i], b[j] = b[j], b[i]
	b[i].index, b[j].index = i, j
}

func (b *byNumber) Push(x any) {
	n := x.(*network)
	n.index = len(*b)
	*b = append(*b, n)
}

func (b *byNumber) Pop() any {
	last := len(*b) - 1
	n := (*b)[last]
	(*b)[last] = nil
	*b = (*b)[:last]
	return n
}

// networkOf is what counts as one client: an IPv4 address, a Machine's /112 on Fly's private network, or the /64 of another IPv6
// address, since a host may take any address in its subnet (RFC 4291 §2.5.1). It is the zero Prefix where the address is not known.
func networkOf(a netip.Addr) netip.Prefix {
	a = a.WithZone("")
	if p, ok := fly.MachineNetwork(a); ok {
		return p
	}
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

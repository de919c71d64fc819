package relay

import (
	"sync"
	"time"
)

// deadlines is the heap of a client connection's calls that have a deadline, the earliest first. One timer serves them all.
//
// A call's deadline holds wherever the call is: while it waits for a connection, and while a peer has it. Usually the client itself
// ends the call then, and the peer does; this is for those that don't.
type deadlines struct {
	mu sync.Mutex
	// The fields below are guarded by mu; nothing else is locked while it is held.
	heap  []*stream
	timer *time.Timer
	// armed is when the timer fires, on the engine's clock; 0 when it is not set. It may fire too early: who was first may have
	// ended.
	armed  int64
	closed bool
}

// grace is what a deadline is given beyond its time, so that the two ends of the call, which began to count before us, come first.
const grace = 5 * time.Millisecond

// add notes a call's deadline.
func (c *conn) addDeadline(s *stream) {
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	s.place = len(d.heap) + 1
	d.heap = append(d.heap, s)
	d.up(len(d.heap) - 1)
	if d.armed == 0 || s.deadline < d.armed {
		c.arm(s.deadline)
	}
}

// removeDeadline takes a call out that has ended.
func (c *conn) removeDeadline(s *stream) {
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	i := s.place - 1
	if i < 0 {
		return
	}
	d.remove(i)
}

func (d *deadlines) remove(i int) {
	d.heap[i].place = 0
	last := len(d.heap) - 1
	if i < last {
		d.heap[i] = d.heap[last]
		d.heap[i].place = i + 1
	}
	d.heap[last] = nil
	d.heap = d.heap[:last]
	if i < last {
		d.down(i)
		d.up(i)
	}
}

// arm sets the timer. The caller holds deadlines.mu.
func (c *conn) arm(at int64) {
	d := &c.deadlines
	d.armed = at
	wait := time.Duration(at-c.e.clock()) + grace
	if d.timer == nil {
		d.timer = time.AfterFunc(wait, c.expire)
		return
	}
	d.timer.Reset(wait)
}

// expire runs when the timer fires: it ends the calls whose time is over.
func (c *conn) expire() {
	if !c.e.enter() {
		return
	}
	defer c.e.tasks.Done()
	d := &c.deadlines
	now := c.e.clock() - int64(grace)
	var over []*stream
	d.mu.Lock()
	d.armed = 0
	for len(d.heap) > 0 && d.heap[0].deadline <= now {
		over = append(over, d.heap[0])
		d.remove(0)
	}
	if len(d.heap) > 0 && !d.closed {
		c.arm(d.heap[0].deadline)
	}
	d.mu.Unlock()
	for _, s := range over {
		s.expired()
	}
}

// stopDeadlines ends the timer of a connection that has ended.
func (c *conn) stopDeadlines() {
	d := &c.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *deadlines) less(i, j int) bool { return d.heap[i].deadline < d.heap[j].deadline }

func (d *deadlines) swap(i, j int) {
	d.heap[i], d.heap[j] = d.heap[j], d.heap[i]
	d.heap[i].place, d.heap[j].place = i+1, j+1
}

func (d *deadlines) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !d.less(i, parent) {
			return
		}
		d.swap(i, parent)
		i = parent
	}
}

func (d *deadlines) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(d.heap); child++ {
			if d.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		d.swap(i, least)
		i = least
	}
}

// expired ends a call whose deadline has passed.
func (s *stream) expired() {
	up, mine := s.claim()
	if !mine {
		return
	}
	where := "while a peer had the call"
	if up == nil {
		where = "while the call waited for a connection to a peer"
	}
	s.cut(nil, statusDeadlineExceeded, "the deadline passed "+where)
	s.abandon(nil, up, codeCancel)
	s.finish(nil, outcomeOfOurs, statusDeadlineExceeded)
}

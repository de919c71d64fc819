package grpcengine

import (
	"slices"
	"time"
)

// Calls that wait for a connection, or for room on one, wait in their peer's queue, the oldest call first. grpc-go can only wake
// all waiting calls of all peers at once, by a new picker; that would cost a pick of each of them for every call that ends.

// enqueue puts an attempt in the queue, if it is not there yet. The caller holds mu.
func (pe *peer) enqueue(a *attempt) {
	if a.waits.Load() == pe {
		return
	}
	a.waits.Store(pe)
	if a.call.woken == nil {
		a.call.woken = make(chan struct{}, 1)
	}
	i, _ := slices.BinarySearchFunc(pe.queue, a.call.started, func(o *attempt, t time.Time) int { return o.call.started.Compare(t) })
	pe.queue = slices.Insert(pe.queue, i, a)
	pe.waiting.Store(int64(len(pe.queue)))
}

// leave takes an attempt out of the queue in which it waits, if it waits, and passes on the wake that may have been meant for it.
func (a *attempt) leave() {
	pe := a.waits.Swap(nil)
	if pe == nil {
		return
	}
	pe.mu.Lock()
	pe.queue = slices.DeleteFunc(pe.queue, func(o *attempt) bool { return o == a })
	pe.waiting.Store(int64(len(pe.queue)))
	pe.mu.Unlock()
	if pe.hasRoom() {
		pe.wakeFirst()
	}
}

// wakeFirst wakes the call that waits longest: there may be room for one. Usually nobody waits, which costs one load. Who enqueues
// looks for room once more afterwards, so no wake is lost in between.
func (pe *peer) wakeFirst() {
	if pe.waiting.Load() == 0 {
		return
	}
	pe.mu.Lock()
	var first *attempt
	if len(pe.queue) > 0 {
		first = pe.queue[0]
	}
	pe.mu.Unlock()
	if first != nil {
		first.call.wake()
	}
}

// wakeAll wakes all that wait for this peer: something else than a stream's end has changed.
func (pe *peer) wakeAll() {
	pe.mu.Lock()
	all := slices.Clone(pe.queue)
	pe.mu.Unlock()
	for _, a := range all {
		a.call.wake()
	}
}

// hasRoom tells whether a connection that takes calls has room for one more.
func (pe *peer) hasRoom() bool {
	links := pe.ready.Load()
	return links != nil && slices.ContainsFunc(*links, func(l *link) bool { return l.conn.Load().hasRoom() })
}

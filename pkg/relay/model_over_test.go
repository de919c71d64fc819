package relay_test

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// awaitPings waits until the engine has read everything that was sent to it by ends that read.
func (r *modelRun) awaitPings() {
	r.mu.Lock()
	for _, e := range r.ends() {
		if !e.dies && !e.over && !e.paused {
			e.sendPing()
		}
	}
	r.changed.Broadcast()
	r.mu.Unlock()
	if !r.wait(func() bool {
		for _, e := range r.ends() {
			if !e.dies && !e.over && !e.paused && len(e.pings) > 0 {
				return false
			}
		}
		return true
	}) {
		r.mu.Lock()
		r.breaks("a PING is not answered")
		r.mu.Unlock()
	}
}

// awaitArrival waits for a call to come to a peer. In a random schedule there may be good reasons why it does not.
func (r *modelRun) awaitArrival(s modelStep) {
	c := r.calls[s.Call%len(r.calls)]
	here := func() bool { return c.client == nil || c.client.closed() || c.peer != nil }
	if !s.Must {
		r.waitFor(10*time.Millisecond, here)
	} else if !r.wait(here) {
		r.hangs("a call does not come to a peer")
	}
}

// end brings the run to rest: everybody reads, gives credit and ends what is open. Then every call must be over as its two sides
// have ended it, every account settled, and the connections as good as new.
func (r *modelRun) end() {
	r.mu.Lock()
	r.ending = true
	for _, e := range r.ends() {
		e.relax()
	}
	for _, c := range r.calls {
		c.endBoth()
	}
	r.changed.Broadcast()
	r.mu.Unlock()
	if !r.wait(func() bool {
		for _, c := range r.calls {
			if !c.over() {
				return false
			}
		}
		return true
	}) {
		r.hangs("a call does not come to its end")
	}
	r.awaitPings()
	r.settled()
	r.witness()
}

// relax has an end read, and give credit and room, from here on.
func (e *modelEnd) relax() {
	if e.dies || e.over {
		return
	}
	e.paused = false
	if !e.client && e.said == 0 {
		e.sendSettings([]http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}})
	}
	if e.manner.Opens {
		e.sendSettings([]http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 24}})
	}
	e.openWindows()
}

// openWindows gives every leg and the connection room.
func (e *modelEnd) openWindows() {
	e.openWindow(nil)
	for _, l := range e.order {
		e.openWindow(l)
	}
}

// endBoth ends what the schedule has left open of a call: the request, and once all of that has arrived the response.
func (c *modelCall) endBoth() {
	if c.client == nil {
		return
	}
	if c.peer == nil || c.peer.sentReset == nil {
		// With a reset from the peer under way the request stays as it is: the client must learn of it.
		if l := c.client; l.alive() && !l.ended() {
			l.queue = append(l.queue, modelItem{end: true, piece: 1})
			l.end.pump()
		}
	}
	if c.answers = true; c.peer != nil && c.peer.gotEnd {
		c.peerStep(modelStep{Kind: peerTrailers})
	}
}

// over tells whether a call has come to its end on both sides. That the end is the right one was checked when it came.
func (c *modelCall) over() bool {
	cl, p := c.client, c.peer
	if cl == nil {
		return true
	}
	peerOver := p == nil || p.closed() || p.end.over || p.end.dies
	if cl.sentReset != nil || cl.end.dies {
		return peerOver
	}
	if cl.gotReset != nil || c.own {
		return peerOver
	}
	return cl.gotEnd && cl.sentEnd && peerOver
}

func (r *modelRun) hangs(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault != "" {
		return
	}
	all := ""
	for _, c := range r.calls {
		if c.client != nil && !c.over() {
			all += "\n" + c.state()
		}
	}
	for _, e := range r.ends() {
		all += fmt.Sprintf("\n%s: over %v, dies %v, leaving %v, %d streams of %d, %d SETTINGS not acknowledged", e.name, e.over, e.dies,
			e.leaving, len(e.legs), e.ours.maxStreams, len(e.pending))
	}
	r.fault = what + all
}

// settled checks what is left when all calls are over.
func (r *modelRun) settled() {
	r.rests("with all calls over there are still calls in flight, or octets held", func() bool {
		st := r.engine.Stats()
		return st.InFlight == 0 && st.BufferedBytes == 0 && st.ReplayBytes == 0
	})
	r.rests("the engine still counts connections that have ended", func() bool {
		ready := 0
		for _, p := range r.engine.Stats().Peers {
			ready += p.Ready
			if p.Connecting > 0 {
				return false // it may be to one that we have cut already
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range r.peers {
			for _, e := range p.ends {
				if !e.dies && !e.over {
					ready--
				}
			}
		}
		return ready <= 0
	})
	if !r.wait(func() bool { return r.started == r.ended }) {
		r.hangs("the observer was told of calls that started and not of their end")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cuts = false
	for _, e := range r.ends() {
		// Credit is returned in batches; more than half a window is never kept back.
		if !e.dies && !e.over && e.theirs.window < e.theirs.most/2 {
			r.breaks("%s: at rest only %d of the connection's window of %d octets are left", e.name, e.theirs.window, e.theirs.most)
		}
	}
	for _, c := range r.calls {
		if cl := c.client; cl == nil || !cl.gotEnd || cl.sentReset != nil || c.own || !withStatus(c.peer) {
			continue
		}
		if want := c.wantCode(); r.outcome[c.path] != want {
			r.breaks("the observer is told that %s ended with %v, its peer said %v", c.path, r.outcome[c.path], want)
		}
	}
}

func (r *modelRun) broken() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fault != ""
}

// rests waits until ok, which only polling can tell.
func (r *modelRun) rests(otherwise string, ok func() bool) {
	for deadline := time.Now().Add(modelPatience); !ok(); time.Sleep(time.Millisecond) {
		if r.broken() {
			return
		}
		if time.Now().After(deadline) {
			r.mu.Lock()
			r.breaks("%s: %+v", otherwise, r.engine.Stats())
			r.mu.Unlock()
			return
		}
	}
}

func (c *modelCall) wantCode() codes.Code {
	var n int
	_, _ = fmt.Sscan(c.plan.Status, &n)
	return codes.Code(n)
}

// witness makes one more call on every client connection that is left: HPACK tables and windows are as they should be.
func (r *modelRun) witness() {
	r.mu.Lock()
	var more []*modelCall
	for i, e := range r.clients {
		if r.fault != "" || e.dies || e.over {
			continue
		}
		n := len(r.calls)
		c := &modelCall{run: r, number: n, path: fmt.Sprintf("/model.Service/Witness%d", n), left: make(map[*modelEnd]bool),
			plan: modelCallPlan{Client: i, Status: "0", Request: []hpack.HeaderField{{Name: "x-a", Value: "1"}}}}
		r.calls = append(r.calls, c)
		r.byPath[c.path] = c
		more = append(more, c)
		c.open(modelStep{})
		c.clientStep(modelStep{Kind: clientSends, Size: 100_000, Piece: 1 << 24})
		c.peerStep(modelStep{Kind: peerHeaders})
		c.peerStep(modelStep{Kind: peerSends, Size: 100_000, Piece: 1 << 24})
		c.endBoth()
	}
	r.changed.Broadcast()
	r.mu.Unlock()
	if !r.wait(func() bool {
		for _, c := range more {
			if !c.over() {
				return false
			}
		}
		return true
	}) {
		r.hangs("a call made afterwards does not come to its end")
	}
}

// close ends everything and fails the check if a rule was broken.
func (r *modelRun) close() {
	r.mu.Lock()
	r.closing = true
	for _, e := range r.clients {
		e.die()
	}
	r.mu.Unlock()
	if err := r.engine.Close(); err != nil {
		r.t.Errorf("Close: %v", err)
	}
	if err := <-r.served; err != nil {
		r.t.Errorf("Serve: %v", err)
	}
	r.mu.Lock()
	for _, p := range r.peers {
		_ = p.lis.Close()
		for _, e := range p.ends {
			e.die()
		}
	}
	fault := r.fault
	if fault != "" {
		fault += r.trace()
	}
	r.mu.Unlock()
	r.tasks.Wait()
	if fault != "" {
		r.t.Fatal(fault)
	}
}

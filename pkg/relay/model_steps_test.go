package relay_test

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The steps of a schedule. The run's mu is held in all of this.

// ends are all connections' ends: the clients', then the peers'.
func (r *modelRun) ends() []*modelEnd {
	all := append([]*modelEnd(nil), r.clients...)
	for _, p := range r.peers {
		all = append(all, p.ends...)
	}
	return all
}

// step does one step, if it makes sense now.
func (r *modelRun) step(s modelStep) {
	c := r.calls[s.Call%len(r.calls)]
	ends := r.ends()
	e := ends[s.End%len(ends)]
	switch {
	case s.Kind == clientOpens:
		c.open(s)
	case s.Kind <= clientResets:
		if c.client != nil && c.client.alive() {
			c.clientStep(s)
		}
	case s.Kind <= peerRefuses:
		c.peerStep(s)
	case s.Kind == givesStreamCredit:
		l := c.client
		if s.End%2 == 1 {
			l = c.peer
		}
		if l != nil && l.alive() && !l.gotEnd {
			l.end.credit(l, int64(s.Size))
		}
	case e.dies || e.over:
	default:
		e.step(s)
	}
	r.changed.Broadcast()
}

func (e *modelEnd) step(s modelStep) {
	switch s.Kind {
	case sendsSettings:
		e.sendSettings(s.Settings)
	case givesCredit:
		e.credit(nil, int64(s.Size))
	case sendsPing:
		e.sendPing()
	case sendsNoise:
		e.sendNoise()
	case stopsReading:
		e.paused = true
	case reads:
		e.paused = false
	case peerGoesAway:
		if !e.client && !e.leaving {
			e.goAway()
		}
	case peerDies:
		if !e.client {
			e.cut()
		}
	case clientDies:
		if e.client {
			e.die()
		}
	}
}

// goAway says GOAWAY: what has come is still done, what comes is not.
func (e *modelEnd) goAway() {
	e.leaving, e.lastOK = true, e.lastID
	for _, c := range e.run.calls {
		if c.client != nil && c.peer == nil {
			c.left[e] = true
		}
	}
	_ = e.framer.WriteGoAway(e.lastOK, http2.ErrCodeNo, nil)
}

// cut closes a peer's connection in mid-call. The engine cannot know whether calls that are not here yet were lost with it.
func (e *modelEnd) cut() {
	e.run.cuts = true
	for _, c := range e.run.calls {
		if c.client != nil && (c.peer == nil || c.peer.end == e) {
			c.lossy = true
		}
	}
	e.die()
}

func (c *modelCall) open(s modelStep) {
	clients := c.run.clients
	e := clients[c.plan.Client%len(clients)]
	if c.client != nil || e.dies || e.over {
		return
	}
	c.client = e.leg(c, e.nextID)
	c.lossy = c.run.cuts
	for _, other := range c.run.ends() {
		if other.leaving && !other.over && !other.dies {
			c.left[other] = true // the engine may not have read its GOAWAY
		}
	}
	e.nextID += 2
	fields := append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: c.path}, {Name: ":authority", Value: "app"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, c.plan.Request...)
	c.client.queue = []modelItem{{fields: fields, style: s.Style}}
	e.pump()
	if c.run.ending {
		e.openWindow(c.client)
	}
}

// ended tells whether the client has sent, or will, END_STREAM.
func (l *modelLeg) ended() bool {
	return l.sentEnd || len(l.queue) > 0 && l.queue[len(l.queue)-1].end
}

func (c *modelCall) clientStep(s modelStep) {
	l := c.client
	if s.Kind == clientResets {
		l.sendReset(s.Code)
		return
	}
	if l.ended() {
		return
	}
	switch {
	case s.Kind == clientSends:
		l.queue = append(l.queue, modelItem{size: s.Size, piece: s.Piece, pad: s.Pad, end: s.Style.Priority && s.Style.Pieces == 5})
	case s.Style.Pieces == 20:
		l.queue = append(l.queue, modelItem{fields: []hpack.HeaderField{{Name: "x-request-trailer", Value: "t"}}, end: true, style: s.Style})
	default:
		l.queue = append(l.queue, modelItem{piece: 1, pad: s.Pad, end: true})
	}
	l.end.pump()
}

func (c *modelCall) peerStep(s modelStep) {
	switch s.Kind {
	case peerRefuses:
		c.refuse()
		return
	case peerResets:
		if c.peer == nil {
			c.resets = &s.Code
		} else if c.peer.alive() {
			c.peer.sendReset(s.Code)
		}
		return
	}
	if c.finished {
		return
	}
	fields := append([]hpack.HeaderField(nil), s.Fields...)
	status := []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}}
	switch s.Kind {
	case peerInterim:
		if !c.headed {
			c.respond(modelItem{fields: append([]hpack.HeaderField{{Name: ":status", Value: "103"}}, fields...), style: s.Style})
		}
	case peerHeaders:
		if !c.headed {
			c.headed = true
			c.respond(modelItem{fields: append(status, fields...), style: s.Style})
		}
	case peerSends, peerEnds:
		if c.headed {
			c.finished = s.Kind == peerEnds
			c.respond(modelItem{size: s.Size, piece: max(s.Piece, 1), pad: s.Pad, end: c.finished})
		}
	case peerTrailers:
		all := append([]hpack.HeaderField{{Name: "grpc-status", Value: c.plan.Status}}, fields...)
		if !c.headed {
			all = append(status, all...)
		}
		c.headed, c.finished = true, true
		c.respond(modelItem{fields: all, end: true, style: s.Style})
	}
}

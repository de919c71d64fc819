package relay

import (
	"net"
	"slices"
	"time"
)

// startDial opens a connection. The caller has set dialing.
func (pe *peer) startDial() {
	if pe.e.enter() {
		go pe.connect()
		return
	}
	pe.failed(net.ErrClosed) // the engine is closed
}

const (
	minRedial = 50 * time.Millisecond
	maxRedial = time.Second
	// maxFailures is how many attempts in a row may have failed so that a call still waits for the next.
	maxFailures = 3
)

// redialLater has calls that wait looked after when the next attempt to connect is due. The caller holds mu.
func (pe *peer) redialLater(now int64) {
	if !pe.redialing {
		pe.redialing = true
		time.AfterFunc(time.Duration(pe.nextDial-now), pe.redial)
	}
}

func (pe *peer) redial() {
	if !pe.e.enter() {
		return
	}
	defer pe.e.tasks.Done()
	pe.mu.Lock()
	pe.redialing = false
	pe.mu.Unlock()
	pe.settle(nil)
}

// pace puts the next attempt to connect off. The caller holds mu.
func (pe *peer) pace() {
	d := maxRedial
	if pe.failures < 5 {
		d = min(d, minRedial<<pe.failures)
	}
	pe.failures++
	pe.nextDial = pe.e.clock() + jitter(d)
}

// failed is the end of an attempt to connect: the calls that waited for it go elsewhere.
func (pe *peer) failed(err error) {
	pe.mu.Lock()
	pe.dialing = false
	pe.pace()
	var waiting []*stream
	if !slices.ContainsFunc(pe.links, (*link).stays) { // else they wait for that one
		waiting = pe.takeWaiting(len(pe.waiting))
	}
	first := pe.failures == 1
	pe.mu.Unlock()
	if pe.of != nil {
		if first {
			pe.e.cfg.Logger.Warn("cannot connect to peer", "service", pe.of.Key.Service, "instance", pe.of.Key.ID,
				"address", pe.of.Address, "error", err)
		}
		if len(waiting) == 0 {
			pe.e.cfg.Router.Refuse(pe.of)
		}
	}
	pe.elsewhere(nil, waiting)
}

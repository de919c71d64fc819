package registrar

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// op is a kind of command to the store.
type op uint8

const (
	opNone op = iota
	opRegister
	opDeregister
	opBeat
)

// entry is one key that the Beater was ever asked to register. It stays after a withdrawal, so that the process claims once only.
type entry struct {
	inst      registry.Instance
	turn      uint64 // counts what makes the answer of a beat that is under way void
	wanted    bool   // Put came last, not Drop
	claimed   bool   // a registration of this process was accepted
	claimedAt uint64 // the version that its claim got, which ranks it among the processes with this key
	held      bool   // the registry holds our record, as far as we know
	dirty     bool   // the record is to be written
	unsure    bool   // a registration ended without an answer: the record may be there
	verify    bool   // the next beat is to tell whether such a registration arrived after its withdrawal

	superseded bool // another process holds the record
	calledOff  bool // a Drop cancelled the registration under way

	running op // the command under way
	cancel  context.CancelFunc
	due     time.Time // not before this time the next one
	retry   backoff
	waiting []chan<- error // Withdraws

	phase   Phase // as of the last status
	since   time.Time
	renewed time.Time
	err     error
	logged  time.Time
}

// needs is the command that would bring the registry in line with what is wanted.
func (e *entry) needs() op {
	switch {
	case e.running != opNone:
		return opNone
	case e.wanted && e.dirty:
		return opRegister
	case !e.wanted && (e.held || e.unsure):
		return opDeregister
	}
	return opNone
}

func (e *entry) begin(kind op, cancel context.CancelFunc) {
	e.running, e.cancel, e.calledOff = kind, cancel, false
	e.turn++
}

func (e *entry) answer(err error) {
	for _, w := range e.waiting {
		w <- err
	}
	e.waiting = nil
}

func (e *entry) status(key registry.Key) KeyStatus {
	phase := Pending
	switch {
	case !e.wanted && (e.held || e.unsure || e.running != opNone):
		phase = Withdrawing
	case !e.wanted:
		phase = Withdrawn
	case e.superseded:
		phase = Superseded
	case e.held && !e.dirty:
		phase = Registered
	}
	if phase != e.phase {
		e.phase, e.since = phase, time.Now()
	}
	return KeyStatus{Key: key, Phase: phase, Err: e.err, Since: e.since, Renewed: e.renewed}
}

// command applies a Put or a Drop.
func (l *beatLoop) command(c command) {
	key := c.inst.Key()
	e := l.entries[key]
	if e == nil {
		e = &entry{retry: backoff{low: writeRetryLow, high: min(writeRetryHigh, l.b.cfg.Lease/3)}}
		l.entries[key] = e
	}
	if c.withdraw {
		l.drop(e, c.answer)
	} else {
		l.put(e, c.inst)
	}
}

func (l *beatLoop) put(e *entry, inst registry.Instance) {
	e.answer(ErrPutAgain)
	if !e.held || e.running == opDeregister || !reflect.DeepEqual(e.inst, inst) {
		e.dirty = true
	}
	if !e.superseded { // else it keeps its time: a flapping app must not ask more often
		e.due = time.Now()
	}
	e.inst, e.wanted, e.verify = inst, true, false
	e.turn++
	e.retry.reset()
}

func (l *beatLoop) drop(e *entry, answer chan<- error) {
	if answer != nil {
		e.waiting = append(e.waiting, answer)
	}
	if e.wanted {
		e.wanted, e.dirty = false, false
		e.turn++
		e.retry.reset()
		if e.running == opRegister {
			e.calledOff = true // do not wait for a slow registry only to undo what it does
			e.cancel()
		}
	}
	if !e.superseded {
		e.due, e.err = time.Now(), nil
	}
	if e.running == opNone && !e.held && !e.unsure {
		e.answer(nil)
	}
}

// registered takes the outcome of a registration and tells whether it succeeded.
func (l *beatLoop) registered(e *entry, o outcome) bool {
	e.running = opNone
	now := time.Now()
	switch {
	case o.err == nil:
		e.held, e.unsure, e.claimed = true, false, true
		if o.claim {
			e.claimedAt = o.version
		}
		e.dirty = e.wanted && !reflect.DeepEqual(e.inst, o.inst)
		e.renewed, e.err, e.logged = o.began, nil, time.Time{}
		e.due = now
		e.retry.reset()
		if e.superseded {
			e.superseded = false
			l.b.log.Info("the other process does not hold this registration any more, this one does again", "key", o.inst.Key().String())
		}
		if e.wanted {
			l.b.log.Info("registered", "key", o.inst.Key().String(), "address", e.inst.Address, "incarnation", e.inst.Incarnation)
		}
		return true
	case errors.Is(o.err, registry.ErrSuperseded):
		e.held, e.unsure = false, false
		if e.wanted {
			l.supersede(e)
		}
	case !e.wanted, e.calledOff:
		e.unsure = e.unsure || !refused(o.err)
		e.due = now
	default:
		e.unsure = e.unsure || !refused(o.err)
		e.due = now.Add(e.retry.next())
		l.writeFailed(e, "registering failed: trying again", o)
	}
	if !e.wanted && !e.held && !e.unsure {
		e.answer(nil)
	}
	return false
}

func (l *beatLoop) deregistered(e *entry, o outcome) {
	e.running = opNone
	now := time.Now()
	if o.err != nil && !errors.Is(o.err, registry.ErrSuperseded) {
		e.due = now.Add(e.retry.next())
		if e.wanted {
			e.due = now
			return
		}
		l.writeFailed(e, "deregistering failed: trying again; else the lease ends the registration", o)
		return
	}
	// A registration that got no answer may sit in a dead connection and reach the registry after this. The next beat will tell.
	e.verify = e.unsure && !e.wanted && o.err == nil
	e.held, e.unsure, e.err, e.logged = false, false, nil, time.Time{}
	e.due = now
	e.retry.reset()
	l.b.log.Info("deregistered", "key", o.inst.Key().String())
	e.answer(nil)
}

// standing takes what a beat, begun at the given time, says of one key.
func (l *beatLoop) standing(e *entry, s registry.Standing, began time.Time) {
	switch {
	case !e.wanted: // only verify brings it here
		e.held, e.verify = s == registry.Current, false
		e.due = time.Now()
	case s == registry.Current:
		e.renewed = began
		e.err = nil
	case s == registry.Unknown:
		l.b.log.Info("the registry has lost this instance: registering again", "key", e.inst.Key().String())
		e.held, e.dirty = false, true
		e.due = time.Now()
	case s == registry.Superseded:
		l.supersede(e)
	}
}

// supersede gives a key up. It is asked for again, without a claim, once a lease: that takes nothing from a live holder, and
// brings the instance back if the holder was a ghost, such as the record of a dead predecessor that a failover brought back.
func (l *beatLoop) supersede(e *entry) {
	e.held, e.dirty, e.err = false, true, registry.ErrSuperseded
	e.turn++
	e.due = time.Now().Add(jitter(l.b.cfg.Lease))
	if e.superseded {
		return
	}
	e.superseded = true
	l.b.log.Error("another process has registered under this instance's id and holds it now; this one stops its heartbeats. "+
		"If two processes share one instance_id, give each its own; if this is an old process, end it",
		"key", e.inst.Key().String(), "address", e.inst.Address, "incarnation", e.inst.Incarnation)
	if l.b.cfg.OnSuperseded != nil {
		l.b.cfg.OnSuperseded(e.inst.Key())
	}
}

// writeFailed logs the first failure of a row, and then one a minute.
func (l *beatLoop) writeFailed(e *entry, msg string, o outcome) {
	e.err = o.err
	if now := time.Now(); e.logged.IsZero() || now.Sub(e.logged) >= failureLogEvery {
		e.logged = now
		l.b.log.Warn(msg, "key", o.inst.Key().String(), "error", o.err, "next_in", time.Until(e.due).Round(time.Millisecond))
	}
}

// withRemedy adds to a refusal of our own record which configuration keys to change: before that, trying again cannot help.
func withRemedy(err error) error {
	switch {
	case errors.Is(err, registry.ErrNetwork):
		return fmt.Errorf("%w; set registration.address to an address in one of registry.allowed_networks, or add its network there", err)
	case errors.Is(err, registry.ErrAddress):
		return fmt.Errorf("%w; correct registration.address: peers need host:port, with the address of one host", err)
	}
	return err
}

// refused tells whether err says for certain that nothing was written.
func refused(err error) bool {
	for _, e := range []error{registry.ErrAuth, registry.ErrWrongType, registry.ErrTooLarge, registry.ErrMalformed,
		registry.ErrAddress, registry.ErrNetwork} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

package registrar

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// clockEvery is how often the loop looks for a jump of the clock. It bounds how late a resumed Machine beats.
const clockEvery = time.Second

// failureLogEvery keeps a long outage from filling the log.
const failureLogEvery = time.Minute

// beatLoop is the state of a running Beater. Only the goroutine of run touches it; commands to the store run in goroutines of
// their own, at most one beat and one other per key, and come back as outcomes.
type beatLoop struct {
	b        *Beater
	entries  map[registry.Key]*entry
	outcomes chan outcome
	ended    <-chan struct{} // the context of run
	commands sync.WaitGroup
	clock    clock

	status   BeatStatus // without Keys
	due      time.Time  // of the next beat
	retry    backoff
	inFlight context.CancelFunc // of the beat that is under way, or nil
	jumped   bool               // the clock jumped while it was
	logged   time.Time          // the last failure that was logged
}

// outcome is how one command to the store ended.
type outcome struct {
	kind    op
	err     error
	began   time.Time
	latency time.Duration

	inst    registry.Instance // of a register or deregister
	claim   bool              // of a register
	version uint64            // the answer to a register

	owned []ownedKey // of a beat
	reply registry.BeatReply
}

// ownedKey remembers as of which turn of an entry a beat asked for it: the answer is void if the entry has moved on since.
type ownedKey struct {
	key  registry.Key
	turn uint64
}

func newBeatLoop(b *Beater) *beatLoop {
	return &beatLoop{
		b:        b,
		entries:  make(map[registry.Key]*entry),
		outcomes: make(chan outcome),
		clock:    newClock(b.cfg.Wall),
		due:      time.Now(),
		retry:    backoff{low: beatRetryLow, high: min(beatRetryHigh, b.cfg.Interval)},
	}
}

func (l *beatLoop) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	l.ended = ctx.Done()
	defer l.commands.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.b.signal:
			for _, c := range l.b.receive() {
				l.command(c)
			}
		case o := <-l.outcomes:
			l.outcome(o)
		case <-timer.C:
		}
		if d := l.clock.jumped(); d != 0 {
			l.clockJumped(d)
		}
		timer.Reset(time.Until(l.start(ctx)))
		l.publish()
	}
}

// start begins every command that is due and gives the time of the next look.
func (l *beatLoop) start(ctx context.Context) time.Time {
	now := time.Now()
	next := now.Add(clockEvery)
	for _, e := range l.entries {
		kind := e.needs()
		if kind == opNone {
			continue
		}
		if e.due.After(now) {
			next = earlier(next, e.due)
			continue
		}
		l.write(ctx, e, kind)
	}
	if l.inFlight == nil {
		if !l.due.After(now) {
			l.beat(ctx, now)
		} else {
			next = earlier(next, l.due)
		}
	}
	return next
}

func (l *beatLoop) write(ctx context.Context, e *entry, kind op) {
	ctx, cancel := context.WithTimeout(ctx, l.b.cfg.Timeout)
	e.begin(kind, cancel)
	l.commands.Add(1)
	if kind == opRegister {
		go l.register(ctx, cancel, e.inst, e.claimedAt, !e.claimed)
	} else {
		go l.deregister(ctx, cancel, e.inst)
	}
}

// register writes inst. Its outcome has inst as it was put, without claimedAt.
func (l *beatLoop) register(ctx context.Context, cancel context.CancelFunc, inst registry.Instance, claimedAt uint64, claim bool) {
	defer l.commands.Done()
	defer cancel()
	began := time.Now()
	record := inst
	record.ClaimedAt = claimedAt
	version, err := l.b.cfg.Store.Register(ctx, record, l.b.cfg.Lease, claim)
	l.tell(outcome{kind: opRegister, err: withRemedy(err), began: began, inst: inst, claim: claim, version: version})
}

func (l *beatLoop) deregister(ctx context.Context, cancel context.CancelFunc, inst registry.Instance) {
	defer l.commands.Done()
	defer cancel()
	began := time.Now()
	err := l.b.cfg.Store.Deregister(ctx, inst.Key(), inst.Incarnation)
	l.tell(outcome{kind: opDeregister, err: err, began: began, inst: inst})
}

func (l *beatLoop) beat(ctx context.Context, now time.Time) {
	b := registry.Beat{Lease: l.b.cfg.Lease}
	var load registry.Load
	if l.b.cfg.Load != nil {
		load = l.b.cfg.Load()
	}
	var owned []ownedKey
	for key, e := range l.entries {
		if e.held || e.verify {
			b.Owned = append(b.Owned, registry.Owned{
				Key: key, Incarnation: e.inst.Incarnation, ClaimedAt: e.claimedAt, Load: load,
			})
			owned = append(owned, ownedKey{key, e.turn})
		}
	}
	if l.b.cfg.Wanted != nil {
		b.Ask = l.b.cfg.Wanted(registry.MaxAsk)
	}
	ctx, cancel := context.WithTimeout(ctx, l.b.cfg.Timeout)
	l.inFlight, l.jumped = cancel, false
	l.due = now.Add(jitter(l.b.cfg.Interval))
	l.commands.Add(1)
	go l.sendBeat(ctx, cancel, b, owned)
}

func (l *beatLoop) sendBeat(ctx context.Context, cancel context.CancelFunc, b registry.Beat, owned []ownedKey) {
	defer l.commands.Done()
	defer cancel()
	began := time.Now()
	reply, err := l.b.cfg.Store.Beat(ctx, b)
	l.tell(outcome{kind: opBeat, err: err, began: began, latency: time.Since(began), owned: owned, reply: reply})
}

// tell hands o to the loop, or drops it when the loop has ended.
func (l *beatLoop) tell(o outcome) {
	select {
	case l.outcomes <- o:
	case <-l.ended:
	}
}

func (l *beatLoop) outcome(o outcome) {
	switch o.kind {
	case opBeat:
		l.beaten(o)
	case opRegister:
		if l.registered(l.entries[o.inst.Key()], o) && l.status.Failing > 0 {
			l.due = time.Now() // the registry is there again: bring all else right too
		}
	case opDeregister:
		l.deregistered(l.entries[o.inst.Key()], o)
	}
}

// beaten takes the answer of a beat, or its failure.
func (l *beatLoop) beaten(o outcome) {
	l.inFlight = nil
	now := time.Now()
	if o.err != nil {
		l.beatFailed(o.err, now)
		return
	}
	if l.status.Failing > 0 {
		l.b.log.Info("registry reached again", "failed_beats", l.status.Failing)
		for _, e := range l.entries {
			if !e.superseded {
				e.due = earlier(e.due, now)
			}
		}
	}
	l.status = BeatStatus{LastBeat: o.began, Latency: o.latency, Version: o.reply.Version}
	l.retry.reset()
	if l.jumped {
		l.due = now // it may have been answered before the jump
	}
	for i, k := range o.owned {
		e := l.entries[k.key]
		if i < len(o.reply.Standings) && e.turn == k.turn {
			l.standing(e, o.reply.Standings[i], o.began)
		}
	}
	if l.b.cfg.OnReply != nil {
		l.b.cfg.OnReply(o.reply, o.latency)
	}
}

func (l *beatLoop) beatFailed(err error, now time.Time) {
	if l.jumped {
		l.due = now // it was called off, because its connection is likely dead
		return
	}
	l.status.Failing++
	l.status.Err = err
	l.due = now.Add(l.retry.next())
	if l.status.Failing == 1 || now.Sub(l.logged) >= failureLogEvery {
		l.logged = now
		last := slog.Time("last_beat", l.status.LastBeat)
		if l.status.LastBeat.IsZero() {
			last = slog.String("last_beat", "never")
		}
		l.b.log.Warn("heartbeat failed: trying again; a registration ends when its lease does, calls go on by the last known view",
			"error", err, "failed_beats", l.status.Failing, last, "lease", l.b.cfg.Lease)
	}
	if l.b.cfg.OnError != nil {
		l.b.cfg.OnError(err)
	}
}

// clockJumped makes the next beat happen now: the lease may have ended while this Machine stood still.
func (l *beatLoop) clockJumped(d time.Duration) {
	l.b.log.Info("the clock jumped, as after a suspend: sending a heartbeat now", "by", d)
	l.due = time.Now()
	if l.inFlight != nil {
		l.jumped = true
		l.inFlight()
	}
}

func (l *beatLoop) publish() {
	s := l.status
	for key, e := range l.entries {
		s.Keys = append(s.Keys, e.status(key))
	}
	slices.SortFunc(s.Keys, func(a, b KeyStatus) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	l.b.status.Store(&s)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

package discovery

import (
	"context"
	"log/slog"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Times of the owner.
const (
	// graceLeast is how long a message may still be on its way after a beat has told of its version; up to graceMore is added
	// at random.
	graceLeast = 100 * time.Millisecond
	graceMore  = 150 * time.Millisecond
	// spacing is the least time between two snapshots, and the random part of every wait for one but the first. Where one
	// message tells a thousand watchers that they have missed something, they read one after the other.
	spacing = 100 * time.Millisecond
)

// owner is the one goroutine that changes the table and publishes views.
type owner struct {
	d      *Discovery
	reader *reader
	table  *table
	status Status

	// readAt is when the next snapshot is to be read; zero when none is wanted.
	readAt time.Time
	// busy is true while one is being read. Meanwhile messages wait in queue, and again says that the one being read does not
	// suffice.
	busy, again bool
	queue       []registry.Change
	// behind says that something is known to be missing until a snapshot has been read. One may also be wanted only to ask
	// whether the registry is there.
	behind   bool
	lastRead time.Time
	failures int

	// expected is the version that a beat told of and that has not come yet; past expectBy a snapshot is read.
	expected uint64
	expectBy time.Time

	publishedAt time.Time
}

func newOwner(d *Discovery, r *reader) *owner {
	return &owner{d: d, reader: r, table: newTable(d.cfg.Lease), status: d.Status()}
}

func (o *owner) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.d.inbox.wake:
			o.open(o.d.inbox.take())
		case r := <-o.reader.results:
			o.read(r)
		case <-timer.C:
		}
		o.due()
		o.report()
		if next := o.next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// open handles what came in.
func (o *owner) open(l letters) {
	for i := range l.changes {
		o.change(&l.changes[i])
	}
	if l.lost {
		o.missed("too many changes waited")
	}
	if l.watchErr != nil {
		o.status.LastError = "watch: " + l.watchErr.Error()
		o.d.log.Warn("the registry's watch ended; it is started again", "error", l.watchErr)
	}
	if l.beat {
		o.observe(l.observed)
	}
}

func (o *owner) change(c *registry.Change) {
	o.table.answer(time.Now())
	switch {
	case c.Kind == registry.Reset:
		o.table.reset()
		// A snapshot that is being read may have been read before the watch was in force.
		o.queue, o.failures, o.behind = nil, 0, true
		o.want()
	case o.busy && !o.again && len(o.queue) < maxWaiting:
		o.table.note(c)
		o.queue = append(o.queue, *c)
	case o.busy && !o.again:
		o.missed("too many changes came while a snapshot was read")
		o.replay(append(o.queue, *c))
		o.queue = nil
	case o.behind:
		// The snapshot that is going to be read has it.
		o.table.skip(c)
	default:
		o.apply(c)
	}
}

// apply takes a message while nothing is known to be missing.
func (o *owner) apply(c *registry.Change) {
	now := time.Now()
	version := o.table.version
	switch o.table.change(c, now) {
	case applied:
		o.status.Changes++
		o.confirm(now)
	case gap:
		o.missed("a change does not follow", "previous", c.Previous, "version", c.Version, "ours", version)
	}
}

// observe compares a beat's version with ours.
func (o *owner) observe(version uint64) {
	now := time.Now()
	o.table.answer(now)
	switch {
	case !o.busy && !o.readAt.IsZero():
		// It is going to be read anyway.
	case !o.busy && o.holds(version, now):
		o.confirm(now)
	default:
		o.expected = version
		if o.expectBy.IsZero() {
			o.expectBy = now.Add(graceLeast + jitter(graceMore))
		}
	}
}

// holds tells whether the table has, or just had, this version.
func (o *owner) holds(version uint64, now time.Time) bool {
	return o.table.known && (version == o.table.version || o.table.left.has(version, now))
}

// confirm notes that the table is what the registry holds, as far as it has told.
func (o *owner) confirm(now time.Time) {
	o.status.ConfirmedAt = now
	if !o.expectBy.IsZero() && o.holds(o.expected, now) {
		o.expectBy = time.Time{}
	}
}

// missed notes that something is missing and wants a snapshot.
func (o *owner) missed(why string, args ...any) {
	o.status.Gaps++
	o.behind = true
	o.d.log.Debug("the view has a gap: "+why, args...)
	o.want()
}

// want sees to it that a snapshot is read which begins after now.
func (o *owner) want() {
	if o.busy {
		o.again = true
		return
	}
	now := time.Now()
	at := now
	if o.table.known {
		at = now.Add(jitter(spacing))
	}
	if least := o.lastRead.Add(spacing + jitter(spacing)); !o.lastRead.IsZero() && at.Before(least) {
		at = least
	}
	if o.readAt.IsZero() || at.Before(o.readAt) {
		o.readAt = at
	}
}

// read takes a snapshot, or the failure to read one.
func (o *owner) read(r reading) {
	now := time.Now()
	o.busy, o.lastRead = false, now
	queue, again := o.queue, o.again
	o.queue, o.again = nil, false
	if r.err != nil {
		o.failed(r.err, now)
		o.replay(queue)
		return
	}
	o.status.Snapshots++
	o.status.Rejected = r.snapshot.Rejected
	o.status.LastError = ""
	if !o.table.known {
		o.d.log.Info("first view of the registry", "instances", len(r.snapshot.Instances), "version", r.snapshot.Version)
	} else if o.failures > 0 {
		o.d.log.Info("the registry answers again", "failures", o.failures, "version", r.snapshot.Version)
	}
	o.failures = 0
	held := len(o.table.held)
	o.table.load(&r.snapshot, now)
	if more := len(o.table.held) - held; more > 0 {
		o.d.log.Warn("instances vanished from the registry without a word; they are kept for one lease",
			"vanished", more, "held", len(o.table.held), "lease", o.d.cfg.Lease)
	}
	o.confirm(now)
	if o.behind = again; again {
		o.want()
	}
	o.replay(queue)
}

// replay handles the messages that came while a snapshot was read.
func (o *owner) replay(queue []registry.Change) {
	for i := range queue {
		if o.behind {
			o.table.skip(&queue[i])
		} else {
			o.apply(&queue[i])
		}
	}
}

func (o *owner) failed(err error, now time.Time) {
	level := slog.LevelDebug
	if o.failures == 0 {
		level = slog.LevelWarn
	}
	o.status.LastError = "snapshot: " + err.Error()
	o.readAt = now.Add(backoff(o.failures))
	o.failures++
	o.d.log.Log(context.Background(), level, "cannot read the registry; the last view stays in force", "error", err,
		"retry_in", o.readAt.Sub(now), "instances", len(o.table.entries))
}

// due does what is due.
func (o *owner) due() {
	now := time.Now()
	reached := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	if !o.busy && o.readAt.IsZero() && reached(o.expectBy) {
		o.missed("a beat told of a version that did not come", "version", o.expected, "ours", o.table.version)
	}
	if !o.busy && o.readAt.IsZero() && reached(o.table.askAt()) {
		o.want()
	}
	if !o.busy && reached(o.readAt) {
		// What was expected before is part of what is read now.
		o.readAt, o.expectBy, o.busy = time.Time{}, time.Time{}, true
		o.reader.requests <- struct{}{}
	}
	o.table.expire(now)
	if last := o.d.View(); o.table.changedSince(last) && reached(o.publishAt()) {
		o.publishedAt = now
		o.status.Views++
		o.d.publish(o.table.view(last))
	}
}

// publishAt is when the next view may be published: a moment that may have passed.
func (o *owner) publishAt() time.Time { return o.publishedAt.Add(o.d.cfg.Coalesce) }

// next is when the owner has to look again, if nothing comes in before; zero is never.
func (o *owner) next() time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if o.table.changedSince(o.d.View()) {
		sooner(o.publishAt())
	}
	sooner(o.table.nextExpiry())
	switch {
	case o.busy:
	case !o.readAt.IsZero():
		sooner(o.readAt)
	default:
		sooner(o.expectBy)
		sooner(o.table.askAt())
	}
	return next
}

// report makes the status what it is now.
func (o *owner) report() {
	v := o.d.View()
	s := &o.status
	s.Version, s.Source, s.Instances, s.Held = v.Version, v.Source, len(v.Entries), len(o.table.held)
	switch {
	case !o.table.known:
		s.State = Connecting
	case o.behind:
		s.State = Stale
	default:
		s.State = Current
	}
	o.d.setStatus(*s)
}

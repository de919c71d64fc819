package discovery

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// table is the mutable state behind the views: what is known of each instance, and where in the registry's history that is.
// It has no goroutine and no clock of its own; the owner calls it and tells it the time.
type table struct {
	lease time.Duration

	// known is false until the first snapshot.
	known   bool
	version uint64
	entries map[registry.Key]registry.Entry
	// dirty are the keys whose entries changed since the last view.
	dirty map[registry.Key]struct{}
	left  recent

	// chained says that a message has come since the last Reset, and chain is that message's version. Messages of one watch
	// arrive in order, so each one's Previous is the chain unless one was lost.
	chained bool
	chain   uint64
	// catchingUp is true after a snapshot until the messages have met it: those sent before it was read arrive after it and
	// are part of it.
	catchingUp bool

	// held are the instances that vanished without a word, and when each of them goes.
	held map[registry.Key]time.Time
	// gone are known instances whose removal was announced by a message that was not applied: the next snapshot lacks them
	// for a good reason.
	gone map[registry.Key]struct{}
	// answered is when the registry last said anything.
	answered time.Time
}

func newTable(lease time.Duration) *table {
	return &table{
		lease:   lease,
		entries: make(map[registry.Key]registry.Entry),
		dirty:   make(map[registry.Key]struct{}),
		held:    make(map[registry.Key]time.Time),
		gone:    make(map[registry.Key]struct{}),
	}
}

// verdict is what became of a message.
type verdict uint8

const (
	applied verdict = iota + 1
	// included means that the table holds it already, by a snapshot that was read after it was sent.
	included
	// gap means that something is missing between the table and the message.
	gap
)

// reset says that a watch begins: what it sends need not follow from what the last one sent.
func (t *table) reset() { t.chained, t.chain = false, 0 }

// change applies a message if it follows from what the table holds.
func (t *table) change(c *registry.Change, now time.Time) verdict {
	follows := !t.chained || c.Previous == t.chain
	t.skip(c)
	switch {
	case t.known && c.Previous == t.version:
		t.catchingUp = false
		t.put(c.Instances)
		t.remove(c.Keys)
		clear(t.gone)
		t.moveTo(c.Version, now)
		return applied
	case t.known && t.catchingUp && follows && c.Version <= t.version:
		// One message after the other leads up to the snapshot. That its number is not higher would not be enough by itself: a
		// failover may have taken the registry back.
		t.catchingUp = c.Version != t.version
	default:
		return gap
	}
	// A held instance is not in the snapshot; so this message, which is, says why.
	for _, k := range c.Keys {
		if _, ok := t.held[k]; ok {
			t.drop(k)
		}
	}
	clear(t.gone)
	return included
}

// skip passes over a message that is not applied, because a snapshot is going to be read after it.
func (t *table) skip(c *registry.Change) {
	t.chained, t.chain = true, c.Version
	t.note(c)
}

// note remembers what a message says of removals, until it is applied or a snapshot is loaded.
func (t *table) note(c *registry.Change) {
	for i := range c.Instances {
		delete(t.gone, c.Instances[i].Key())
	}
	for _, k := range c.Keys {
		if _, ok := t.entries[k]; ok {
			t.gone[k] = struct{}{}
		}
	}
}

// load takes a snapshot. What it lacks without a word is held for a lease.
func (t *table) load(s *registry.Snapshot, now time.Time) {
	t.answer(now)
	present := make(map[registry.Key]struct{}, len(s.Instances))
	for i := range s.Instances {
		present[s.Instances[i].Key()] = struct{}{}
	}
	t.put(s.Instances)
	for k, e := range t.entries {
		if _, ok := present[k]; ok {
			continue
		}
		if _, told := t.gone[k]; told {
			t.drop(k)
			continue
		}
		if !e.Held {
			e.Held = true
			t.entries[k] = e
			t.held[k] = now.Add(t.lease)
			t.dirty[k] = struct{}{}
		}
	}
	clear(t.gone)
	t.moveTo(s.Version, now)
	t.known, t.catchingUp = true, true
}

func (t *table) put(instances []registry.Instance) {
	for i := range instances {
		k := instances[i].Key()
		was, ok := t.entries[k]
		if ok && !was.Held && reflect.DeepEqual(was.Instance, instances[i]) {
			continue
		}
		t.entries[k] = registry.Entry{Instance: instances[i]}
		delete(t.held, k)
		t.dirty[k] = struct{}{}
	}
}

func (t *table) remove(keys []registry.Key) {
	for _, k := range keys {
		if _, ok := t.entries[k]; ok {
			t.drop(k)
		}
	}
}

func (t *table) drop(k registry.Key) {
	delete(t.entries, k)
	delete(t.held, k)
	t.dirty[k] = struct{}{}
}

func (t *table) moveTo(version uint64, now time.Time) {
	if t.known && version != t.version {
		t.left.add(t.version, now)
	}
	t.version = version
}

// answer says that the registry answered. An instance is held so that it can register again, for which it needs a registry
// that answers: after a silence of more than half a lease the holds begin anew.
func (t *table) answer(now time.Time) {
	if now.Sub(t.answered) > t.lease/2 {
		for k := range t.held {
			t.held[k] = now.Add(t.lease)
		}
	}
	t.answered = now
}

// expire drops what was held for its time, if the registry answered lately.
func (t *table) expire(now time.Time) {
	if now.Sub(t.answered) > t.lease/2 {
		return
	}
	for k, until := range t.held {
		if !now.Before(until) {
			t.drop(k)
		}
	}
}

// nextExpiry is when the first hold ends; zero when none does before the registry has answered again.
func (t *table) nextExpiry() time.Time {
	var next time.Time
	for _, until := range t.held {
		if next.IsZero() || until.Before(next) {
			next = until
		}
	}
	if next.Sub(t.answered) > t.lease/2 {
		return time.Time{}
	}
	return next
}

// askAt is when the registry should be asked whether it is still there, if nobody has heard of it until then, because a hold's
// time runs only while it answers; zero when nothing is held.
func (t *table) askAt() time.Time {
	if len(t.held) == 0 {
		return time.Time{}
	}
	return t.answered.Add(t.lease * 2 / 5)
}

// changedSince tells whether a view is due that differs from the last one.
func (t *table) changedSince(last *registry.View) bool {
	return t.known && (len(t.dirty) > 0 || last.Version != t.version || last.Source != registry.FromRegistry)
}

// view makes the view that follows last.
func (t *table) view(last *registry.View) *registry.View {
	v := &registry.View{Version: t.version, Source: registry.FromRegistry, Entries: last.Entries}
	if len(t.dirty) > 0 {
		v.Entries = t.merge(last.Entries)
		clear(t.dirty)
	}
	return v
}

// merge gives the sorted entries: those of the last view, with the dirty ones taken from the table. It sorts only what changed,
// so a change among 10,000 instances costs one pass over them.
func (t *table) merge(last []registry.Entry) []registry.Entry {
	changed := slices.SortedFunc(maps.Keys(t.dirty), compareKeys)
	merged := make([]registry.Entry, 0, len(t.entries))
	for _, k := range changed {
		n, found := slices.BinarySearchFunc(last, k, compareEntry)
		merged = append(merged, last[:n]...)
		last = last[n:]
		if found {
			last = last[1:]
		}
		if e, ok := t.entries[k]; ok {
			merged = append(merged, e)
		}
	}
	return append(merged, last...)
}

func compareKeys(a, b registry.Key) int {
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID))
}

func compareEntry(e registry.Entry, k registry.Key) int {
	return cmp.Or(cmp.Compare(e.Instance.Service, k.Service), cmp.Compare(e.Instance.ID, k.ID))
}

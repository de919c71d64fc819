package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/flyproxy/flyproxy/pkg/discovery"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// step is one thing that happens to a registry or to the way to it.
type step struct {
	what string
	id   string
	time time.Duration
}

var happenings = []string{
	"put", "put", "put", "put", "remove", "remove", "beat", "beat", "wait", "wait", "wait", "wait long",
	"lose", "lose not", "slow messages", "slow reads", "fast", "disconnect", "connect", "fail reads", "read again",
	"flush", "save", "fail over",
}

func steps() *rapid.Generator[[]step] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			what: rapid.SampledFrom(happenings).Draw(t, "what"),
			id:   rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "id"),
			time: time.Duration(rapid.IntRange(0, 300).Draw(t, "ms")) * time.Millisecond,
		}
	}), 1, 60)
}

// play has the steps happen to f while d watches it.
type play struct {
	f       *fake
	d       *discovery.Discovery
	restore func()
	count   int
	// removed are the ids whose removal was ever asked for. Only they may leave a view while they are registered: a message of
	// an earlier removal may be late.
	removed map[string]bool
	faults  []string
}

func (p *play) step(s step) {
	f := p.f
	switch s.what {
	case "put":
		p.count++
		i := instance("s", s.id)
		i.Incarnation = fmt.Sprint(p.count)
		f.put(i)
	case "remove":
		f.set(func() { p.removed[s.id] = true })
		f.remove(registry.Key{Service: "s", ID: s.id})
	case "beat":
		p.d.Observe(f.beat())
	case "wait":
		settle(s.time)
	case "wait long":
		settle(s.time * 50)
	case "lose":
		f.set(func() { f.lose = true })
	case "lose not":
		f.set(func() { f.lose = false })
	case "slow messages":
		f.set(func() { f.delay = s.time })
	case "slow reads":
		f.set(func() { f.readTime = s.time })
	case "fast":
		f.set(func() { f.delay, f.readTime = 0, 0 })
	case "disconnect":
		f.disconnect()
	case "connect":
		f.connect()
	case "fail reads":
		f.set(func() { f.readErr = errors.New("down") })
	case "read again":
		f.set(func() { f.readErr = nil })
	case "flush":
		f.flush()
	case "save":
		p.restore = f.save()
	case "fail over":
		// The connections to the old primary are gone; the new one has an older state and another clock.
		if p.restore != nil {
			f.disconnect()
			p.restore()
			f.set(func() { f.skew = -s.time * 1000 })
			f.connect()
		}
	}
}

// watch checks each view against the one before it.
func (p *play) watch(last *registry.View) func(*registry.View) {
	return func(v *registry.View) {
		if !slices.IsSortedFunc(v.Entries, func(a, b registry.Entry) int {
			return strings.Compare(a.Instance.ID, b.Instance.ID)
		}) {
			p.faults = append(p.faults, fmt.Sprintf("view is not sorted: %v", ids(v)))
		}
		p.f.set(func() {
			for _, e := range last.Entries {
				_, registered := p.f.records[e.Instance.Key()]
				if registered && !p.removed[e.Instance.ID] && !has(v, e.Instance.Key()) {
					p.faults = append(p.faults, fmt.Sprintf("%s left the view although it is registered", e.Instance.ID))
				}
			}
		})
		last = v
	}
}

func has(v *registry.View, k registry.Key) bool {
	return slices.ContainsFunc(v.Entries, func(e registry.Entry) bool { return e.Instance.Key() == k })
}

// finish has everything work again and gives what is wrong with the view after a quiet time and one beat.
func (p *play) finish() []string {
	f := p.f
	f.set(func() { f.lose, f.delay, f.readTime, f.readErr = false, 0, 0, nil })
	f.connect()
	settle(5 * time.Second)
	p.d.Observe(f.beat())
	settle(time.Second)

	// What vanished without a word may be held for now, but nothing else may differ.
	v := *p.d.View()
	v.Entries = slices.DeleteFunc(slices.Clone(v.Entries), func(e registry.Entry) bool { return e.Held })
	if fault := differs(f, &v); fault != "" {
		p.faults = append(p.faults, "after one beat: "+fault)
	}
	if s := p.d.Status(); s.State != discovery.Current {
		p.faults = append(p.faults, fmt.Sprintf("after one beat: %+v", s))
	}
	beatEvery(f, p.d, 5*time.Second, 2*lease)
	if fault := differs(f, p.d.View()); fault != "" {
		p.faults = append(p.faults, "after two leases: "+fault)
	}
	return p.faults
}

// Whatever is lost, delayed, cut or taken back: after a quiet time and one beat the view is what the registry holds.
func TestAnyScheduleEndsWithTheRegistrysView(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		schedule := steps().Draw(rt, "steps")
		var faults []string
		synctest.Test(t, func(t *testing.T) {
			p := &play{f: newFake(), removed: make(map[string]bool)}
			p.d = discovery.New(discovery.Config{Store: p.f, Lease: lease})
			p.d.OnChange(p.watch(p.d.View()))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- p.d.Run(ctx) }()
			for _, s := range schedule {
				p.step(s)
			}
			faults = p.finish()
			cancel()
			if err := <-done; err != nil {
				faults = append(faults, err.Error())
			}
		})
		for _, fault := range faults {
			rt.Error(fault)
		}
	})
}

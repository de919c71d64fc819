package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyproxy/flyproxy/pkg/discovery"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

func TestTotalLossHoldsEveryInstanceForALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(instance("s", "a"), instance("s", "b"), instance("s", "c"))
		d := start(t, f)
		settle(time.Minute)
		f.flush()
		d.Observe(f.beat())
		settle(500 * time.Millisecond)
		wantIDs(t, d, "a held", "b held", "c held")
		if s := d.Status(); s.Held != 3 || s.Instances != 3 || s.State != discovery.Current {
			t.Fatalf("status is %+v", s)
		}

		f.put(instance("s", "a"))
		beatEvery(f, d, 5*time.Second, 10*time.Second)
		wantIDs(t, d, "a", "b held", "c held")

		// c says goodbye, b never comes back.
		f.remove(registry.Key{Service: "s", ID: "c"})
		settle(time.Second)
		wantIDs(t, d, "a", "b held")
		beatEvery(f, d, 5*time.Second, 10*time.Second)
		wantSame(t, f, d)
		if s := d.Status(); s.Held != 0 {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestHeldInstancesGoWithoutBeatsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(instance("s", "a"))
		d := start(t, f)
		f.disconnect()
		f.flush()
		f.connect()
		settle(lease - 2*time.Second)
		wantIDs(t, d, "a held")
		settle(4 * time.Second)
		wantSame(t, f, d)
		if s := d.Status(); s.Snapshots > 5 {
			t.Fatalf("%d snapshots were read to wait for one instance", s.Snapshots)
		}
	})
}

// An instance can register again only while the registry answers, so only that time counts.
func TestHoldOutlivesARegistryThatIsLostAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(instance("s", "a"), instance("s", "b"))
		d := start(t, f)
		f.disconnect()
		f.flush()
		f.connect()
		settle(time.Second)
		wantIDs(t, d, "a held", "b held")

		f.disconnect()
		f.set(func() { f.readErr = errors.New("connection refused") })
		settle(time.Hour)
		wantIDs(t, d, "a held", "b held")

		f.set(func() { f.readErr = nil })
		f.connect()
		settle(lease / 2)
		wantIDs(t, d, "a held", "b held")
		f.put(instance("s", "a"))
		settle(lease)
		wantSame(t, f, d)
	})
}

func TestRemovalThatWasToldIsNotHeld(t *testing.T) {
	a := registry.Key{Service: "s", ID: "a"}
	for name, lose := range map[string]func(*fake){
		// The snapshot has the removal, and its message arrives only after the snapshot.
		"after the snapshot": func(f *fake) {
			f.set(func() { f.lose = true })
			f.put(instance("s", "x"))
			f.set(func() { f.lose, f.delay = false, 300*time.Millisecond })
			f.put(instance("s", "y"))
			f.set(func() { f.delay = time.Second })
			settle(290 * time.Millisecond)
			f.remove(a)
		},
		// The message itself shows that another one was lost.
		"before the snapshot": func(f *fake) {
			f.set(func() { f.lose = true })
			f.put(instance("s", "x"))
			f.set(func() { f.lose = false })
			f.remove(a)
		},
		"while the snapshot is read": func(f *fake) {
			f.set(func() { f.lose = true })
			f.put(instance("s", "x"))
			f.set(func() { f.lose, f.readTime = false, time.Second })
			f.put(instance("s", "y"))
			settle(500 * time.Millisecond)
			f.remove(a)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.put(instance("s", "a"), instance("s", "b"))
				d := start(t, f)
				lose(f)
				settle(3 * time.Second)
				wantSame(t, f, d)
			})
		})
	}
}

func TestRemovalThatWasLostIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(instance("s", "a"), instance("s", "b"))
		d := start(t, f)
		f.set(func() { f.lose = true })
		f.remove(registry.Key{Service: "s", ID: "a"})
		d.Observe(f.beat())
		settle(time.Second)
		wantIDs(t, d, "a held", "b")
		settle(lease)
		wantSame(t, f, d)
	})
}

func TestViewStaysInForceWhileTheRegistryCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(instance("s", "a"), instance("s", "b"))
		d := start(t, f)
		view := d.View()
		f.disconnect()
		f.set(func() { f.readErr = errors.New("connection refused") })
		f.connect()
		before := f.readCount()
		settle(time.Minute)
		if d.View() != view {
			t.Fatal("the view changed")
		}
		s := d.Status()
		if s.State != discovery.Stale || s.LastError != "snapshot: connection refused" || !s.ConfirmedAt.Before(time.Now()) {
			t.Fatalf("status is %+v", s)
		}
		// Between 2 s and 3 s apart, once the waiting time is at its most.
		if tries := f.readCount() - before; tries < 20 || tries > 36 {
			t.Fatalf("%d snapshots were tried in a minute", tries)
		}
		f.set(func() { f.readErr = nil })
		settle(4 * time.Second)
		if s := d.Status(); s.State != discovery.Current || s.LastError != "" {
			t.Fatalf("status is %+v", s)
		}
		wantSame(t, f, d)
	})
}

func TestSnapshotThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(instance("s", "a"))
		f.readTime = time.Hour
		d := start(t, f)
		settle(11 * time.Second)
		if s := d.Status(); s.State != discovery.Connecting || s.LastError != "snapshot: "+context.DeadlineExceeded.Error() {
			t.Fatalf("status is %+v", s)
		}
		f.set(func() { f.readTime = 0 })
		settle(15 * time.Second)
		wantSame(t, f, d)
	})
}

// Where every message shows a gap, a watcher must not read at every message, and a thousand watchers must not read at once.
func TestSnapshotsAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := newFake(), newFake()
		start(t, f)
		start(t, g)
		for i := range 1000 {
			for _, r := range []*fake{f, g} {
				r.set(func() { r.lose = true })
				r.put(instance("s", fmt.Sprint(i)))
				r.set(func() { r.lose = false })
				r.put(instance("s", fmt.Sprint(i)))
			}
			settle(5 * time.Millisecond)
		}
		settle(time.Second)
		for _, r := range []*fake{f, g} {
			if n := r.readCount(); n < 20 || n > 51 {
				t.Errorf("%d snapshots were read in 5 s", n)
			}
			for i := 1; i < len(r.reads); i++ {
				if apart := r.reads[i].Sub(r.reads[i-1]); apart < 100*time.Millisecond {
					t.Errorf("snapshots %d and %d are %v apart", i-1, i, apart)
				}
			}
		}
		at := make(map[time.Time]bool)
		for _, r := range f.reads[1:] {
			at[r] = true
		}
		both := 0
		for _, r := range g.reads[1:] {
			if at[r] {
				both++
			}
		}
		if both > 2 {
			t.Errorf("two watchers read at the same instant %d times of %d", both, len(g.reads))
		}
	})
}

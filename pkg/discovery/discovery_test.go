package discovery_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyproxy/flyproxy/pkg/discovery"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

func TestViewIsThereBeforeTheRegistryIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.disconnect()
		d := start(t, f)
		settle(time.Minute)
		if v := d.View(); v == nil || v.Source != registry.FromNowhere || len(v.Entries) != 0 {
			t.Fatalf("first view is %+v", v)
		}
		if s := d.Status(); s.State != discovery.Connecting || s.Source != registry.FromNowhere {
			t.Fatalf("status is %+v", s)
		}
		select {
		case <-d.Ready():
			t.Fatal("ready without a view")
		default:
		}

		f.put(instance("b", "2"), instance("b", "1"), instance("a", "9"))
		f.connect()
		synctest.Wait()
		<-d.Ready()
		wantIDs(t, d, "9", "1", "2")
		s := d.Status()
		if s.State != discovery.Current || s.Source != registry.FromRegistry || s.Snapshots != 1 || s.Instances != 3 ||
			!s.ConfirmedAt.Equal(time.Now()) || s.Version != f.beat().Version {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestEmptyRegistryIsAView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, newFake())
		<-d.Ready()
		if v := d.View(); v.Source != registry.FromRegistry || len(v.Entries) != 0 {
			t.Fatalf("view is %+v", v)
		}
	})
}

func TestChangesFollowWithoutSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		d := start(t, f)
		settle(time.Second)
		f.put(instance("s", "b"))
		synctest.Wait()
		wantIDs(t, d, "b") // The first change after a quiet time waits for nothing.
		before := d.View()
		f.put(instance("s", "c"), instance("s", "a"))
		settle(discovery.DefaultCoalesce)
		wantIDs(t, d, "a", "b", "c")
		renewed := instance("s", "b")
		renewed.Incarnation = "2"
		f.put(renewed)
		f.remove(registry.Key{Service: "s", ID: "a"}, registry.Key{Service: "s", ID: "unknown"})
		settle(discovery.DefaultCoalesce)
		wantIDs(t, d, "b", "c")
		wantSame(t, f, d)
		if got := ids(before); !slices.Equal(got, []string{"b"}) {
			t.Fatalf("a view that was published has become %v", got)
		}
		if s := d.Status(); s.Snapshots != 1 || s.Gaps != 0 || s.Changes != 6 {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestLostConnectionResumesWithoutGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(instance("s", "a"), instance("s", "b"))
		d := start(t, f)
		f.disconnect()
		f.put(instance("s", "c"))
		settle(time.Hour)
		wantIDs(t, d, "a", "b")

		// What changes after the watch is in force and before the snapshot has arrived must not be lost either.
		f.set(func() { f.readTime = 50 * time.Millisecond })
		f.connect()
		for i := range 40 {
			settle(5 * time.Millisecond)
			f.put(instance("s", fmt.Sprintf("d%02d", i)))
		}
		settle(time.Second)
		wantSame(t, f, d)
		if s := d.Status(); s.Gaps != 0 || s.Snapshots != 2 {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestMessagesSentBeforeTheSnapshotMayArriveAfterIt(t *testing.T) {
	// In the second case some arrive while it is on its way, and some after it.
	for _, readTime := range []time.Duration{20 * time.Millisecond, 250 * time.Millisecond} {
		t.Run(readTime.String(), func(t *testing.T) { messagesBeforeSnapshot(t, readTime) })
	}
}

func messagesBeforeSnapshot(t *testing.T, readTime time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.delay = 300 * time.Millisecond
		f.readErr = errors.New("not yet")
		d := start(t, f)
		f.set(func() { f.readErr, f.readTime = nil, readTime })
		for i := range 100 {
			f.put(instance("s", fmt.Sprintf("a%02d", i)))
			settle(2 * time.Millisecond)
		}
		settle(time.Second)
		wantSame(t, f, d)
		if s := d.Status(); s.Gaps != 0 || s.Snapshots != 1 {
			t.Fatalf("status is %+v", s)
		}
	})
}

// A message whose version is lower than the snapshot's is part of it only if it follows from the messages before it.
func TestLowerVersionAloneDoesNotMakeAMessageOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.readErr = errors.New("not yet")
		d := start(t, f)
		restore := f.save()
		f.set(func() { f.readErr, f.delay = nil, 300*time.Millisecond })
		f.put(instance("s", "a"))
		f.set(func() { f.lose = true })
		f.put(instance("s", "b"))
		settle(400 * time.Millisecond) // The snapshot has both; the message of a came after it, that of b never.
		wantIDs(t, d, "a", "b")

		restore()
		f.set(func() { f.lose, f.delay, f.skew = false, 0, -time.Hour })
		f.put(instance("s", "c"))
		settle(500 * time.Millisecond)
		wantIDs(t, d, "a held", "b held", "c")
	})
}

func TestResetWhileASnapshotIsReadReadsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.readTime = 50 * time.Millisecond
		d := start(t, f)
		settle(10 * time.Millisecond)
		f.disconnect()
		f.put(instance("s", "a")) // Neither in the snapshot that is on its way nor told by the watch.
		f.connect()
		settle(time.Second)
		wantSame(t, f, d)
		if s := d.Status(); s.Snapshots != 2 {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestStormIsCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var told atomic.Int64
		d := start(t, f, func(d *discovery.Discovery) { d.OnChange(func(*registry.View) { told.Add(1) }) })
		before := d.Status()
		// 1,000 registrations in 50 ms.
		for i := range 1000 {
			f.put(instance("s", fmt.Sprintf("%04d", i)))
			settle(50 * time.Microsecond)
		}
		settle(discovery.DefaultCoalesce)
		wantSame(t, f, d)
		s := d.Status()
		if s.Changes-before.Changes != 1000 || s.Snapshots != 1 {
			t.Fatalf("status is %+v", s)
		}
		if built := s.Views - before.Views; built < 2 || built > 8 {
			t.Fatalf("%d views were built for 1,000 registrations in 50 ms, want one each 10 ms", built)
		}
		if told.Load() != int64(s.Views) {
			t.Fatalf("%d views were told of, %d built", told.Load(), s.Views)
		}
	})
}

func TestWatchThatGivesUpIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.watchErr = errors.New("no permission to subscribe")
		f.put(instance("s", "a"))
		d := start(t, f)
		settle(time.Minute)
		if s := d.Status(); s.LastError != "watch: no permission to subscribe" {
			t.Fatalf("status is %+v", s)
		}
		if f.watches < 20 || f.watches > 60 {
			t.Fatalf("%d watches were started in a minute", f.watches)
		}
		f.set(func() { f.watchErr = nil })
		settle(5 * time.Second)
		wantSame(t, f, d)
		if s := d.Status(); s.LastError != "" {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestSilenceOfALeaseMakesAViewStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put(instance("s", "a"))
		d := start(t, f)
		beatEvery(f, d, 5*time.Second, time.Minute)
		if s := d.Status(); s.State != discovery.Current || !s.ConfirmedAt.Equal(time.Now()) || s.Snapshots != 1 {
			t.Fatalf("status is %+v", s)
		}
		settle(lease + time.Second)
		if s := d.Status(); s.State != discovery.Stale {
			t.Fatalf("status is %+v", s)
		}
		wantIDs(t, d, "a")
		d.Observe(f.beat())
		synctest.Wait()
		if s := d.Status(); s.State != discovery.Current {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestSubscribersAreToldOnceUntilTheyLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var versions []uint64
		d := start(t, f, func(d *discovery.Discovery) {
			d.OnChange(func(v *registry.View) {
				if v != d.View() {
					t.Error("a view was told of that is not in force")
				}
				versions = append(versions, v.Version)
			})
		})
		changed, cancel := d.Subscribe()
		for i := range 10 {
			f.put(instance("s", fmt.Sprint(i)))
			settle(discovery.DefaultCoalesce)
		}
		<-changed
		wantSame(t, f, d)
		select {
		case <-changed:
			t.Fatal("told twice")
		default:
		}
		cancel()
		cancel()
		f.put(instance("s", "more"))
		settle(time.Second)
		select {
		case <-changed:
			t.Fatal("told after the subscription ended")
		default:
		}
		if len(versions) != 12 || !slices.IsSorted(versions) {
			t.Fatalf("views were told in the order %v", versions)
		}
	})
}

func TestOwnerThatFallsBehindReadsOneSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.room = 20_000
		blocked := make(chan struct{})
		var once sync.Once
		d := start(t, f, func(d *discovery.Discovery) {
			d.OnChange(func(v *registry.View) {
				if len(v.Entries) > 0 {
					once.Do(func() { <-blocked })
				}
			})
		})
		settle(time.Second)
		f.put(instance("s", "first"))
		synctest.Wait()
		for i := range 10_000 {
			f.put(instance("s", fmt.Sprintf("%05d", i)))
		}
		synctest.Wait()
		close(blocked)
		settle(time.Second)
		wantSame(t, f, d)
		if s := d.Status(); s.Snapshots != 2 || s.Gaps != 1 {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestQueueThatOverflowsReadsAnotherSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.room = 20_000
		d := start(t, f)
		f.disconnect()
		f.set(func() { f.readTime = time.Second })
		f.connect()
		settle(300 * time.Millisecond)
		for i := range 9_000 {
			f.put(instance("s", fmt.Sprintf("%04d", i)))
			if i%100 == 0 {
				settle(time.Millisecond)
			}
		}
		settle(5 * time.Second)
		wantSame(t, f, d)
		if s := d.Status(); s.Snapshots != 3 || s.Gaps != 1 {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestRunTwiceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, newFake())
		if err := d.Run(t.Context()); err == nil {
			t.Fatal("a second Run was accepted")
		}
	})
}

package discovery_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestLostMessageIsRepairedByTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		d := start(t, f)
		f.set(func() { f.lose = true })
		f.put(instance("s", "a"))
		f.set(func() { f.lose = false })
		f.put(instance("s", "b"))
		settle(500 * time.Millisecond)
		wantSame(t, f, d)
		if s := d.Status(); s.Gaps != 1 || s.Snapshots != 2 {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestLostMessageIsRepairedByABeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		d := start(t, f)
		f.set(func() { f.lose = true })
		f.put(instance("s", "a"))
		settle(time.Minute)
		wantIDs(t, d)
		d.Observe(f.beat())
		settle(500 * time.Millisecond)
		wantSame(t, f, d)
	})
}

func TestWatchThatNeverWorksIsReplacedByBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.noWatch = true
		f.put(instance("s", "a"))
		d := start(t, f)
		beatEvery(f, d, 5*time.Second, 10*time.Second)
		settle(time.Second)
		wantSame(t, f, d)
		f.put(instance("s", "b"))
		beatEvery(f, d, 5*time.Second, 5*time.Second)
		settle(time.Second)
		wantSame(t, f, d)
	})
}

func TestBeatThatOvertakesItsMessageReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		d := start(t, f)
		f.set(func() { f.delay = 60 * time.Millisecond })
		f.put(instance("s", "a"))
		d.Observe(f.beat())
		settle(time.Second)
		wantSame(t, f, d)
		if s := d.Status(); s.Gaps != 0 || s.Snapshots != 1 {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestBeatThatWasOvertakenReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		d := start(t, f)
		f.put(instance("s", "a"))
		late := f.beat()
		for i := range 100 {
			settle(time.Millisecond)
			f.put(instance("s", fmt.Sprint(i)))
		}
		synctest.Wait()
		d.Observe(late)
		settle(5 * time.Second)
		if s := d.Status(); s.Gaps != 0 || s.Snapshots != 1 {
			t.Fatalf("status is %+v", s)
		}
		// The same number a while later is no late reply: the registry went back to it.
		d.Observe(late)
		settle(time.Second)
		if s := d.Status(); s.Gaps != 1 || s.Snapshots != 2 {
			t.Fatalf("status is %+v", s)
		}
	})
}

func TestVersionGoingDownIsRead(t *testing.T) {
	for name, tc := range map[string]struct{ reconnect, beat bool }{
		"told by the next message": {},
		"told by a beat":           {beat: true},
		"told by a new connection": {reconnect: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.put(instance("s", "a"))
				restore := f.save()
				d := start(t, f)
				f.put(instance("s", "b"))
				settle(10 * time.Second)
				wantIDs(t, d, "a", "b")

				// A replica that never saw b takes over, and its clock is an hour behind.
				if tc.reconnect {
					f.disconnect()
				}
				restore()
				f.set(func() { f.skew = -time.Hour })
				low := f.beat().Version
				switch {
				case tc.beat:
					d.Observe(f.beat())
				case tc.reconnect:
					f.connect()
				default:
					f.put(instance("s", "c"))
				}
				settle(time.Second)
				if tc.beat || tc.reconnect {
					wantIDs(t, d, "a", "b held")
				} else {
					wantIDs(t, d, "a", "b held", "c")
				}
				if v := d.View(); v.Version < low || v.Version != f.beat().Version {
					t.Fatalf("view has version %d, the registry %d", v.Version, f.beat().Version)
				}
				f.put(instance("s", "b"))
				settle(time.Second)
				wantSame(t, f, d)
			})
		})
	}
}

package telemetry_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

func TestWindowRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := telemetry.NewWindow()
		if w.Last() != (telemetry.Rates{}) {
			t.Errorf("before the first interval: %+v", w.Last())
		}
		time.Sleep(2 * time.Second)
		for i := range 100 {
			w.Started()
			w.Ended(time.Duration(i+1)*time.Millisecond, i%4 == 0)
		}
		w.Started()
		r := w.Roll()
		if r.Interval != 2*time.Second || r.Calls != 100 || r.Failed != 25 || r.CallsPerSecond != 50 || r.ErrorRate != 0.25 || r.InFlight != 1 {
			t.Errorf("got %+v", r)
		}
		near(t, "p50", r.P50, 50*time.Millisecond)
		near(t, "p99", r.P99, 99*time.Millisecond)
		if w.Last() != r {
			t.Errorf("Last gives %+v, Roll gave %+v", w.Last(), r)
		}

		time.Sleep(time.Second)
		if r := w.Roll(); r != (telemetry.Rates{Interval: time.Second, InFlight: 1}) {
			t.Errorf("an interval without calls: %+v", r)
		}
		if r := w.Roll(); r.CallsPerSecond != 0 || math.IsNaN(r.ErrorRate) {
			t.Errorf("an interval of no time: %+v", r)
		}
	})
}

// bound is the documented error: 6.25 %, or 0.5 µs.
func bound(want time.Duration) time.Duration { return max(want/16, time.Microsecond/2) + 1 }

func near(t rapid.TB, what string, got, want time.Duration) {
	t.Helper()
	if (got - want).Abs() > bound(want) {
		t.Errorf("%s is %v, want %v within %v", what, got, want, bound(want))
	}
}

func TestWindowQuantileError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// The logarithm is drawn, so that all orders of magnitude come up: 1 ns to 19 hours.
		logs := rapid.SliceOfN(rapid.Float64Range(0, math.Log(float64(19*time.Hour))), 1, 300).Draw(t, "log of ns")
		w := telemetry.NewWindow()
		var all []time.Duration
		for _, l := range logs {
			d := time.Duration(math.Exp(l))
			all = append(all, d)
			w.Started()
			w.Ended(d, false)
		}
		slices.Sort(all)
		r := w.Roll()
		near(t, "p50", r.P50, all[(len(all)*50+99)/100-1])
		near(t, "p99", r.P99, all[(len(all)*99+99)/100-1])
	})
}

func TestWindowOddDurations(t *testing.T) {
	for _, d := range []time.Duration{math.MinInt64, -1, 0, math.MaxInt64} {
		w := telemetry.NewWindow()
		w.Started()
		w.Ended(d, true)
		if r := w.Roll(); r.Calls != 1 || r.Failed != 1 || r.P99 <= 0 || r.P99 != r.P50 {
			t.Errorf("%d: %+v", d, r)
		}
	}
}

// Each call counts in exactly one interval, whatever happens at once.
func TestWindowLosesNothing(t *testing.T) {
	const goroutines, each = 4, 20_000
	w := telemetry.NewWindow()
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			for range each {
				w.Started()
				w.Ended(time.Duration(rnd.IntN(1e9)), true)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var sum uint64
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		r := w.Roll()
		if r.ErrorRate < 0 || r.ErrorRate > 1 {
			t.Fatalf("error rate %v", r.ErrorRate)
		}
		sum += r.Calls
	}
	if sum != goroutines*each {
		t.Errorf("%d calls counted, want %d", sum, goroutines*each)
	}
	if w.InFlight() != 0 {
		t.Errorf("%d in flight at the end", w.InFlight())
	}
}

package telemetry

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Rates sums up the calls that ended in one interval.
type Rates struct {
	// Interval is what the other values cover; 0 before the first interval has ended.
	Interval time.Duration
	// Calls ended in the interval; Failed of them with another status than OK.
	Calls, Failed uint64
	// CallsPerSecond is Calls over Interval.
	CallsPerSecond float64
	// ErrorRate is Failed over Calls, 0 to 1; 0 when there were none.
	ErrorRate float64
	// P50 and P99 are quantiles of how long the calls took, within 6.25 % (or 0.5 µs); 0 when there were none. A stream counts
	// with its whole life.
	P50, P99 time.Duration
	// InFlight is the number of calls that were open when the interval ended.
	InFlight int
}

// Durations are counted in buckets on a log-linear scale, as in HdrHistogram: every power of two of microseconds has
// 2^subBits buckets of one width. A bucket is at most 1/8 of its lower bound wide, so its middle is off by 1/16 at most.
const (
	subBits = 3
	subs    = 1 << subBits
	// buckets reach up to 2^36 µs, which is 19 hours; longer calls count as that.
	buckets = 34 * subs
)

// Window counts calls and sums them up interval by interval. The zero value is not ready: use [NewWindow]. Started and Ended
// may be called concurrently and neither lock nor allocate. Roll belongs to one goroutine.
type Window struct {
	inFlight atomic.Int64
	failed   atomic.Uint64
	counts   [buckets]atomic.Uint64

	begun time.Time // of the interval; Roll's own
	last  atomic.Pointer[Rates]
}

// NewWindow begins the first interval.
func NewWindow() *Window {
	w := &Window{begun: time.Now()}
	w.last.Store(&Rates{})
	return w
}

// Started counts a call as open.
func (w *Window) Started() { w.inFlight.Add(1) }

// Ended counts an open call as ended.
func (w *Window) Ended(d time.Duration, failed bool) {
	w.inFlight.Add(-1)
	w.counts[bucketOf(d)].Add(1)
	if failed {
		w.failed.Add(1)
	}
}

// InFlight is the number of open calls.
func (w *Window) InFlight() int { return int(w.inFlight.Load()) }

// Last gives what the last Roll gave. It may be called concurrently with everything.
func (w *Window) Last() Rates { return *w.last.Load() }

// Roll ends the interval, begins the next one, and sums up the one that ended. Each call counts in exactly one interval.
func (w *Window) Roll() Rates {
	now := time.Now()
	r := Rates{Interval: now.Sub(w.begun), InFlight: w.InFlight()}
	w.begun = now

	// A call that ends right now may have its bucket in this interval and its failure in the next: hence the bound on Failed.
	failed := w.failed.Swap(0)
	var counts [buckets]uint64
	for i := range w.counts {
		counts[i] = w.counts[i].Swap(0)
		r.Calls += counts[i]
	}
	r.Failed = min(failed, r.Calls)
	if s := r.Interval.Seconds(); s > 0 {
		r.CallsPerSecond = float64(r.Calls) / s
	}
	if r.Calls > 0 {
		r.ErrorRate = float64(r.Failed) / float64(r.Calls)
		r.P50 = quantile(&counts, r.Calls, 50)
		r.P99 = quantile(&counts, r.Calls, 99)
	}
	w.last.Store(&r)
	return r
}

// quantile gives the middle of the bucket that holds the call of rank ceil(calls × percent / 100).
func quantile(counts *[buckets]uint64, calls, percent uint64) time.Duration {
	rank := (calls*percent + 99) / 100
	var seen uint64
	for i, n := range counts {
		if seen += n; seen >= rank {
			return bucketMiddle(i)
		}
	}
	return bucketMiddle(buckets - 1)
}

func bucketOf(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < subs {
		return int(us)
	}
	shift := bits.Len64(us) - 1 - subBits
	return min((shift+1)*subs+int(us>>shift)%subs, buckets-1)
}

func bucketMiddle(i int) time.Duration {
	if i < subs {
		return time.Duration(i)*time.Microsecond + time.Microsecond/2
	}
	shift := i/subs - 1
	low, width := time.Duration(subs+i%subs)<<shift, time.Duration(1)<<shift
	return low*time.Microsecond + width*time.Microsecond/2
}

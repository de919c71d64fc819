package relay

import (
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// A path that becomes longer for good once counted as a queue for the rest of a connection's life: windows stayed at largeWindow. The
// shortest round trip ages, but not so fast that a queue passes for the path.
func TestShortestRoundTripAges(t *testing.T) {
	enginetest.CheckLeaks(t)
	const ms, second = int64(time.Millisecond), int64(time.Second)
	var p probe
	now := int64(0)
	trip := func(took int64) (own int64) {
		p.of, p.came, p.sent = new(half), 1000, now
		now += took
		of, came, own := p.roundTrip(now)
		if of == nil || came != 1000 || p.of != nil || p.came != 0 {
			t.Fatalf("the PING of %v with %d octets left %v with %d", of, came, p.of, p.came)
		}
		return own
	}
	want := func(took, own int64) {
		t.Helper()
		if got := trip(took); got != own {
			t.Fatalf("at %v: %d octets of 1000 are the path's in a round trip of %v, want %d",
				time.Duration(now), got, time.Duration(took), own)
		}
	}
	// until has round trips go on at ten a second.
	until := func(end, took int64) {
		for now < end {
			trip(took)
			now += 100 * ms
		}
	}
	want(10*ms, 1000)
	want(40*ms, 250) // late: a queue
	until(9*second, 40*ms)
	want(40*ms, 250)
	until(19*second, 40*ms)
	want(40*ms, 250) // the first period is over, but it still counts
	until(21*second, 40*ms)
	want(40*ms, 1000) // the path is longer
	want(80*ms, 500)
	want(20*ms, 1000) // it is shorter again
	want(40*ms, 500)
	// Round trips that are far between say less: there must be enough of them.
	for range leastTrips - 1 {
		now += leastPeriod
		want(40*ms, 500)
	}
	until(now+21*second, 40*ms)
	want(40*ms, 1000)
}

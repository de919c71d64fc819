package relay

import (
	"sync"
	"sync/atomic"
	"testing"
)

const aSecond = int64(1e9)

// takeAll takes until there is nothing left, and gives how much there was.
func takeAll(b *budget, now int64) (n int) {
	for b.take(now) {
		n++
	}
	return n
}

// together runs f on some goroutines, as much at the same time as can be.
func together(goroutines int, f func()) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for range goroutines {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			f()
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
}

// A call makes room for retries for ten seconds, and a retry takes its room for as long.
func TestBudgetForgetsAfterTenSeconds(t *testing.T) {
	b := budget{ratio: 0.2}
	for range 100 {
		b.call(0)
	}
	if n := takeAll(&b, 5*aSecond); n != 20 {
		t.Errorf("%d retries for 100 calls, want 20", n)
	}
	for range 200 {
		b.call(9 * aSecond)
	}
	if n := takeAll(&b, 9*aSecond); n != 40 {
		t.Errorf("%d retries for 200 more calls, want 40", n)
	}
	if n := takeAll(&b, 10*aSecond); n != 0 { // 200 calls and 60 retries are left
		t.Errorf("%d retries were left by calls that are forgotten", n)
	}
	if n := takeAll(&b, 15*aSecond); n != 0 { // 200 calls and 40 retries
		t.Errorf("%d retries more than the calls of the window allow", n)
	}
	if n := takeAll(&b, 19*aSecond); n != budgetFloor {
		t.Errorf("%d retries once all is forgotten, want %d", n, budgetFloor)
	}
}

// The first to count in a second begins it anew, and loses nothing of what others count at the same time.
func TestBudgetLosesNothingAtTheTurnOfASecond(t *testing.T) {
	const goroutines, each, turns = 4, 25, 2000
	b := budget{ratio: 0.2}
	for turn := range int64(turns) {
		now := 10 * aSecond * turn // the same place, ten seconds later
		together(goroutines, func() {
			for range each {
				b.call(now)
			}
		})
		if n := takeAll(&b, now); n != goroutines*each/5 {
			t.Fatalf("turn %d: %d retries for %d calls, want %d", turn, n, goroutines*each, goroutines*each/5)
		}
	}
}

// Many who take at the same time, in two seconds, get no more than there is.
func TestBudgetIsNotOverdrawn(t *testing.T) {
	for turn := range int64(8000) {
		b := budget{ratio: 0.2}
		now := 10*aSecond*turn + aSecond - 1
		var taken, begun atomic.Int64
		together(4, func() {
			at := now + begun.Add(1)%2 // every other one is in the next second
			for range 4 {
				if b.take(at) {
					taken.Add(1)
				}
			}
		})
		if n := taken.Load() + int64(takeAll(&b, now)); n != budgetFloor {
			t.Fatalf("turn %d: %d retries were given, want %d", turn, n, budgetFloor)
		}
	}
}

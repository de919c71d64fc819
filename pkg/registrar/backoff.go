package registrar

import (
	"math/rand/v2"
	"time"
)

// backoff gives growing waits between low and high. Each is drawn from the upper half of its step, so that a fleet that failed
// together does not come back together.
type backoff struct {
	low, high time.Duration
	step      time.Duration
}

// next is the wait before the next attempt.
func (b *backoff) next() time.Duration {
	b.step = min(max(b.step*2, b.low), b.high)
	return b.step/2 + rand.N(b.step/2+1)
}

func (b *backoff) reset() { b.step = 0 }

// jitter spreads d by ±10 %.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

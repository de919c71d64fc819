package discovery

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Waiting times between attempts that failed: doubled each time, up to the most, plus up to half as much at random.
const (
	backoffLeast = 100 * time.Millisecond
	backoffMost  = 2 * time.Second
)

// backoff is how long to wait after so many failures in a row (0 is the first).
func backoff(failures int) time.Duration {
	t := backoffMost
	if failures < 10 {
		t = min(t, backoffLeast<<failures)
	}
	return t + jitter(t/2)
}

// jitter is a random time below most, so that a thousand watchers that learn the same thing do not all act at one moment.
func jitter(most time.Duration) time.Duration { return rand.N(most) }

// watch keeps the store's watch running until ctx ends. A store reconnects by itself; one that gives up is asked again.
func (d *Discovery) watch(ctx context.Context, joined *sync.WaitGroup) {
	defer joined.Done()
	for failures := 0; ; failures++ {
		began := time.Now()
		err := d.cfg.Store.Watch(ctx, d.inbox.change)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			d.inbox.watchFailed(err)
		}
		if time.Since(began) > backoffMost {
			failures = 0
		}
		if !pause(ctx, backoff(failures)) {
			return
		}
	}
}

// pause waits for t and tells whether ctx is still in force.
func pause(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

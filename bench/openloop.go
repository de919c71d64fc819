package main

import (
	"context"
	"errors"
	"sync"
	"time"
)

// An open loop begins calls at fixed times, whether or not earlier ones have ended, and counts each call's latency from the time at
// which it should have begun. So a stall shows in all the calls that it delayed, and not only in the few that were open, as it
// would in a closed loop ("coordinated omission").
type openLoop struct {
	faults  faults
	running sync.WaitGroup
	// slots bound the calls that are open at a time.
	slots chan struct{}

	// mu guards times.
	mu    sync.Mutex
	times histogram
}

// maxOpen is how many calls an open loop has open at most; a subject that needs more cannot keep up, which counts as an error.
const maxOpen = 4096

var errBehind = errors.New("too many calls open: the rate is more than the subject can do")

// runOpen makes rate calls a second for the measurement's time, evenly spaced.
func runOpen(ctx context.Context, m *measurement, rate int, newCaller func() caller) error {
	loop := &openLoop{slots: make(chan struct{}, maxOpen)}
	space := time.Second / time.Duration(rate)
	warm := int(m.plan.warm / space)
	measured := max(int(m.plan.measure/space), 1)
	begin := time.Now()
	due := func(i int) time.Time { return begin.Add(time.Duration(i) * space) }
	for i := range warm + measured {
		if i == warm {
			if err := m.begin(); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			break
		}
		at := due(i)
		if wait := time.Until(at); wait > 0 {
			sleepFor(wait)
		}
		select {
		case loop.slots <- struct{}{}:
			loop.running.Add(1)
			go loop.one(ctx, newCaller(), at, i >= warm)
		default:
			loop.faults.add(errBehind)
		}
	}
	loop.running.Wait()
	err := m.finish()
	m.Calls = loop.times.total
	m.quantiles(&loop.times)
	loop.faults.into(&m.sample)
	return errors.Join(err, ctx.Err())
}

func (l *openLoop) one(ctx context.Context, c caller, due time.Time, counts bool) {
	defer l.running.Done()
	err := c.call(ctx)
	took := time.Since(due)
	<-l.slots
	if err != nil {
		l.faults.add(err)
		return
	}
	if counts {
		l.mu.Lock()
		l.times.record(took)
		l.mu.Unlock()
	}
}

package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A closed loop keeps a number of calls open: each worker begins the next call when its last one has ended. It shows the most that
// goes through; its latencies are those at that load, and say little of what a caller waits at a lower one (see openLoop).
type closedLoop struct {
	phase atomic.Int32
	// counted is set once a call has been.
	counted atomic.Bool
	faults  faults
}

// The phases of a measurement.
const (
	warming int32 = iota
	measuring
	stopping
)

// maxFaults is after how many failed calls a worker gives up.
const maxFaults = 10

// runClosed measures n workers. open makes worker i's caller; ctx bounds the measurement and is every call's deadline.
func runClosed(ctx context.Context, m *measurement, n int, open func(ctx context.Context, i int) (caller, error)) error {
	loop := &closedLoop{}
	workers := make([]histogram, n)
	var running sync.WaitGroup
	for i := range workers {
		running.Add(1)
		go loop.work(ctx, &running, &workers[i], i, open)
	}
	err := m.window(ctx, func() { loop.phase.Store(measuring) }, loop.counted.Load)
	loop.phase.Store(stopping)
	running.Wait()
	var sum histogram
	for i := range workers {
		sum.add(&workers[i])
	}
	m.Calls = sum.total
	m.quantiles(&sum)
	loop.faults.into(&m.sample)
	return err
}

// work makes calls until the loop stops; it counts those that end in the measured time.
func (l *closedLoop) work(ctx context.Context, running *sync.WaitGroup, times *histogram, i int,
	open func(ctx context.Context, i int) (caller, error)) {
	defer running.Done()
	c, err := open(ctx, i)
	if err != nil {
		l.faults.add(err)
		return
	}
	for failed := 0; l.phase.Load() != stopping; {
		began := time.Now()
		err := c.call(ctx)
		took := time.Since(began)
		if err != nil {
			l.faults.add(err)
			if failed++; failed == maxFaults {
				return
			}
			continue
		}
		if l.phase.Load() == measuring {
			times.record(took)
			if !l.counted.Load() {
				l.counted.Store(true)
			}
		}
	}
	if err := c.end(); err != nil {
		l.faults.add(err)
	}
}

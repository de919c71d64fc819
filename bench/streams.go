package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"
)

// runBulk measures one stream of so many bytes, from its request to its end.
func runBulk(ctx context.Context, m *measurement, clients pool, bytes int64) error {
	if err := m.begin(); err != nil {
		return err
	}
	stream, err := openFeed(ctx, clients[0], bytes)
	if err != nil {
		return err
	}
	var got message
	for {
		err := stream.RecvMsg(&got)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", m.Bytes, err)
		}
		m.Calls++
		m.Bytes += int64(len(got.GetValue()))
	}
	if m.Bytes != bytes {
		return fmt.Errorf("%d bytes came instead of %d", m.Bytes, bytes)
	}
	return m.finish()
}

// runLong measures one stream without end for a time, once its windows have had time to grow.
func runLong(ctx context.Context, m *measurement, clients pool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := openFeed(ctx, clients[0], math.MaxInt64)
	if err != nil {
		return err
	}
	began := time.Now()
	measured := false
	for end := began.Add(m.plan.slowWarm + m.plan.slowMeasure); time.Now().Before(end); {
		if !measured && time.Since(began) >= m.plan.slowWarm {
			measured = true
			if err := m.begin(); err != nil {
				return err
			}
		}
		var got message
		if err := stream.RecvMsg(&got); err != nil {
			return err
		}
		if measured {
			m.Calls++
			m.Bytes += int64(len(got.GetValue()))
		}
	}
	return m.finish()
}

// idleConnections is over how many connections the idle streams are spread. 200 each fit the limits of every subject: Caddy's is 250
// and cannot be configured.
const idleConnections = 50

// runIdle opens n streams, of which each has had one message there and back, leaves them alone, and reads the memory. Then each
// must still answer.
func runIdle(ctx context.Context, m *measurement, clients pool, n int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := m.begin(); err != nil {
		return err
	}
	streams := make([]*pingPong, n)
	var wrong faults
	inParallel(idleConnections, n, func(i int) {
		s, err := openPingPong(ctx, clients[i%len(clients)], payload(100))
		if err == nil {
			streams[i] = s
			err = s.call(ctx)
		}
		if err != nil {
			wrong.add(err)
		}
	})
	if wrong.into(&m.sample); m.Errors > 0 {
		return nil
	}
	if err := pause(ctx, m.plan.settle); err != nil {
		return err
	}
	if err := m.finish(); err != nil {
		return err
	}
	inParallel(idleConnections, n, func(i int) {
		if err := errors.Join(streams[i].call(ctx), streams[i].end()); err != nil {
			wrong.add(fmt.Errorf("after being idle: %w", err))
		}
	})
	wrong.into(&m.sample)
	m.Calls = int64(n)
	return nil
}

// inParallel calls do for 0 to n-1 from so many goroutines, and returns when all have returned.
func inParallel(workers, n int, do func(i int)) {
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		})
	}
	running.Wait()
}

// pause waits, or ends early with ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

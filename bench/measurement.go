package main

import (
	"context"
	"time"
)

// measurement fills one sample. Its begin and finish read the proxy's processes, as close as can be to the time that counts.
type measurement struct {
	sample
	plan plan
	// proxy is the process whose use is read; nil when there is no proxy.
	proxy *process

	began time.Time
	start usage
}

// begin is the start of the measured time.
func (m *measurement) begin() (err error) {
	if m.proxy != nil {
		if m.start, err = readUsage(m.proxy.cmd.Process.Pid); err != nil {
			return err
		}
		m.Before = m.start.resident
	}
	m.began = time.Now()
	return nil
}

// finish is its end.
func (m *measurement) finish() error {
	m.Took = time.Since(m.began)
	if m.proxy == nil {
		return nil
	}
	now, err := readUsage(m.proxy.cmd.Process.Pid)
	if err != nil {
		return err
	}
	m.CPU, m.After = now.cpu-m.start.cpu, now.resident
	return nil
}

// window waits for the warm-up, calls counting, and waits for the measured time; longer, up to the end of ctx, while nothing has been
// counted, as may happen where a busy machine meets a short plan.
func (m *measurement) window(ctx context.Context, counting func(), counted func() bool) error {
	if err := pause(ctx, m.plan.warm); err != nil {
		return err
	}
	if err := m.begin(); err != nil {
		return err
	}
	counting()
	if err := pause(ctx, m.plan.measure); err != nil {
		return err
	}
	for !counted() {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return m.finish()
}

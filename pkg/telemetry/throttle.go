package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Throttle lets something happen once per key in a time, for what would otherwise fill the log. It remembers a bounded number
// of keys; while it is full, all further keys together count as one, so neither memory nor the log grows with the number of
// different keys. All methods may be called concurrently.
type Throttle struct {
	every time.Duration
	keys  int

	// mu guards the fields below. Nothing is called while it is held.
	mu    sync.Mutex
	marks map[string]*throttleMark
	rest  throttleMark
	// sweepAt is when the oldest mark runs out: before it a sweep would free nothing.
	sweepAt time.Time
}

type throttleMark struct {
	until      time.Time
	suppressed int
}

// NewThrottle makes a Throttle that remembers up to keys keys (1 at the least).
func NewThrottle(every time.Duration, keys int) *Throttle {
	return &Throttle{every: every, keys: max(keys, 1), marks: make(map[string]*throttleMark)}
}

// Allow tells whether key may act now, and how often it was held back since it last could.
func (t *Throttle) Allow(key string) (suppressed int, ok bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.markLocked(key, now).allow(now, t.every)
}

// Log logs if key may act now, with the number of times it was held back, if any, as the last attribute.
func (t *Throttle) Log(log *slog.Logger, level slog.Level, key, msg string, args ...any) {
	suppressed, ok := t.Allow(key)
	if !ok {
		return
	}
	if suppressed > 0 {
		args = append(args[:len(args):len(args)], "suppressed", suppressed)
	}
	log.Log(context.Background(), level, msg, args...)
}

func (t *Throttle) markLocked(key string, now time.Time) *throttleMark {
	if m := t.marks[key]; m != nil {
		return m
	}
	if len(t.marks) >= t.keys && !now.Before(t.sweepAt) {
		t.sweepLocked(now)
	}
	if len(t.marks) >= t.keys {
		return &t.rest
	}
	m := new(throttleMark)
	t.marks[key] = m
	if len(t.marks) == 1 {
		t.sweepAt = now.Add(t.every)
	}
	return m
}

func (t *Throttle) sweepLocked(now time.Time) {
	t.sweepAt = now.Add(t.every)
	for k, m := range t.marks {
		switch {
		case !now.Before(m.until):
			delete(t.marks, k)
		case m.until.Before(t.sweepAt):
			t.sweepAt = m.until
		}
	}
}

func (m *throttleMark) allow(now time.Time, every time.Duration) (suppressed int, ok bool) {
	if now.Before(m.until) {
		m.suppressed++
		return 0, false
	}
	suppressed, m.suppressed = m.suppressed, 0
	m.until = now.Add(every)
	return suppressed, true
}

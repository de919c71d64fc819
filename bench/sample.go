package main

import (
	"slices"
	"sync"
	"time"
)

// sample is what one measurement of one cell with one subject gave.
type sample struct {
	Cell    string `json:"cell"`
	Subject string `json:"subject"`
	Round   int    `json:"round"`
	// Calls are those that ended well in the measured time: calls, messages there and back, or streams, as the cell says.
	Calls int64 `json:"calls"`
	// Bytes are what a large stream brought.
	Bytes   int64         `json:"bytes,omitempty"`
	Took    time.Duration `json:"took_ns"`
	P50     time.Duration `json:"p50_ns,omitempty"`
	P99     time.Duration `json:"p99_ns,omitempty"`
	P999    time.Duration `json:"p999_ns,omitempty"`
	CPU     time.Duration `json:"cpu_ns,omitempty"`      // of the proxy's processes
	Before  int64         `json:"rss_before,omitempty"`  // VmRSS of the proxy's processes in bytes, before the measurement
	After   int64         `json:"rss_after,omitempty"`   // and at its end
	Errors  int64         `json:"errors,omitempty"`      // anything that failed, in the warm-up too
	Failure string        `json:"first_error,omitempty"` // the first of them
}

func (s *sample) quantiles(h *histogram) {
	s.P50, s.P99, s.P999 = h.quantile(0.5), h.quantile(0.99), h.quantile(0.999)
}

// broken tells why a sample does not count; empty when it does.
func (s *sample) broken() string {
	switch {
	case s.Errors > 0:
		return s.Failure
	case s.Calls == 0:
		return "no call ended"
	}
	return ""
}

// faults collects what goes wrong in the goroutines of one measurement.
type faults struct {
	// mu guards count and first.
	mu    sync.Mutex
	count int64
	first string
}

func (f *faults) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; f.count == 1 {
		f.first = err.Error()
	}
}

func (f *faults) into(s *sample) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Errors, s.Failure = f.count, f.first
}

// median of any order of values; zero for none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

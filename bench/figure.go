package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// figure is one property of a cell, as the page shows it.
type figure struct {
	title string
	// values are what is computed of each sample; text puts their medians into words.
	values func(s *sample) []float64
	text   func(medians []float64) string
	// proxyOnly is for what there is none of without a proxy.
	proxyOnly bool
}

var (
	cpuPerCall        = figure{"CPU µs per call", cpuPer(perCall), oneNumber(1), true}
	cpuPerMessage     = figure{"CPU µs per message there and back", cpuPer(perCall), oneNumber(1), true}
	cpuPerMiB         = figure{"CPU µs per MiB", cpuPer(perMiB), oneNumber(0), true}
	callsPerSecond    = figure{"calls per second", rate(perCall), whole, false}
	messagesPerSecond = figure{"messages there and back per second", rate(perCall), whole, false}
	throughput        = figure{"MiB per second", rate(perMiB), oneNumber(1), false}
	latency           = figure{"latency p50 / p99 / p99.9 in ms", quantileValues, quantileText, false}
	resident          = figure{"resident memory at the end in MiB", one(func(s *sample) float64 { return float64(s.After) / (1 << 20) }),
		oneNumber(1), true}
	residentBefore = figure{"resident memory before in MiB", one(func(s *sample) float64 { return float64(s.Before) / (1 << 20) }),
		oneNumber(1), true}
	perStream = figure{"KiB per stream", one(func(s *sample) float64 {
		return float64(s.After-s.Before) / (1 << 10) / float64(s.Calls)
	}), oneNumber(1), true}
)

func one(f func(s *sample) float64) func(*sample) []float64 {
	return func(s *sample) []float64 { return []float64{f(s)} }
}

func perCall(s *sample) float64 { return float64(s.Calls) }
func perMiB(s *sample) float64  { return float64(s.Bytes) / (1 << 20) }

// leastCPU is what a sample must have taken for its CPU time to be told: below, the ticks in which it is counted are too coarse.
const leastCPU = 5 * tick

// cpuPer is NaN for too little of it.
func cpuPer(unit func(*sample) float64) func(*sample) []float64 {
	return one(func(s *sample) float64 {
		if s.CPU < leastCPU {
			return math.NaN()
		}
		return float64(s.CPU) / float64(time.Microsecond) / unit(s)
	})
}

func rate(unit func(*sample) float64) func(*sample) []float64 {
	return one(func(s *sample) float64 { return unit(s) / s.Took.Seconds() })
}

func quantileValues(s *sample) []float64 {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return []float64{ms(s.P50), ms(s.P99), ms(s.P999)}
}

func quantileText(medians []float64) string {
	var parts []string
	for _, v := range medians {
		parts = append(parts, significant(v))
	}
	return strings.Join(parts, " / ")
}

func oneNumber(decimals int) func([]float64) string {
	return func(medians []float64) string { return strconv.FormatFloat(medians[0], 'f', decimals, 64) }
}

// inWords writes a duration with a space before its unit.
func inWords(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%g ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%g s", d.Seconds())
}

func whole(medians []float64) string { return thousands(int(medians[0] + 0.5)) }

// significant writes three digits of v.
func significant(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// thousands writes n with its digits in groups.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return thousands(n/1000) + fmt.Sprintf(",%03d", n%1000)
}

// binary writes a number of bytes in the largest unit that it is a whole number of.
func binary(bytes int64) string {
	for _, u := range []struct {
		shift int
		name  string
	}{{30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if bytes >= 1<<u.shift && bytes%(1<<u.shift) == 0 {
			return fmt.Sprintf("%d %s", bytes>>u.shift, u.name)
		}
	}
	return fmt.Sprintf("%d B", bytes)
}

package main

import (
	"log/slog"
	"slices"
	"testing"
	"time"
)

// The number follows what the process uses: up at once, down after a quiet time, never beyond what there is.
func TestProcsFollowTheLoad(t *testing.T) {
	var used time.Duration
	var set []int
	p := &procs{most: 3, now: 1, set: func(n int) { set = append(set, n) }, log: slog.New(slog.DiscardHandler),
		cpu: func() time.Duration { return used }}
	looks := func(n int, cores float64) {
		for range n {
			used += time.Duration(cores * float64(procsEvery))
			p.look(procsEvery)
		}
	}
	looks(100, 0.5)
	if len(set) != 0 {
		t.Fatalf("half a core in use: %v", set)
	}
	looks(1, 0.9)
	looks(1, 1.9)
	looks(10, 3)
	if !slices.Equal(set, []int{2, 3}) {
		t.Fatalf("three cores in use: %v", set)
	}
	looks(quietLooks-1, 0.2)
	looks(1, 1.5) // not quiet after all
	looks(quietLooks-1, 0.2)
	if p.now != 3 {
		t.Fatalf("it shrank too early: %v", set)
	}
	looks(1, 0.2)
	looks(quietLooks, 0.2)
	looks(100, 0.2)
	if !slices.Equal(set, []int{2, 3, 2, 1}) {
		t.Fatalf("after a quiet time: %v", set)
	}
}

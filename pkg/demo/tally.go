package demo

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// tally counts the demo's calls.
type tally struct {
	calls, failed int
	by            map[string]int
	took          []time.Duration
	lastErr       error
}

func newTally() *tally { return &tally{by: make(map[string]int)} }

func (t *tally) add(instance string, took time.Duration, err error) {
	t.calls++
	if err != nil {
		t.failed++
		t.lastErr = err
		return
	}
	t.by[instance]++
	t.took = append(t.took, took)
}

// summary prints the tally. It is an error when a call failed, or when none was made.
func (d *demo) summary(t *tally) error {
	fmt.Fprintf(d.Out, "\n%d calls, %d failed", t.calls, t.failed)
	if len(t.took) > 0 {
		slices.Sort(t.took)
		fmt.Fprintf(d.Out, ", median %.1f ms", float64(t.took[len(t.took)/2].Microseconds())/1000)
	}
	fmt.Fprintln(d.Out)
	for _, id := range slices.Sorted(maps.Keys(t.by)) {
		fmt.Fprintf(d.Out, "  %-8s %d\n", id, t.by[id])
	}
	switch {
	case t.failed > 0:
		return fmt.Errorf("%d of %d %w, the last with: %w", t.failed, t.calls, ErrCallsFailed, t.lastErr)
	case t.calls == 0:
		return fmt.Errorf("no calls were made: %w", ErrCallsFailed)
	}
	return nil
}

// Package leak finds goroutines that outlive a test.
package leak

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long goroutines have to end after the test.
const patience = 10 * time.Second

// Check fails the test if it leaves goroutines behind whose stacks hold one of the words, beyond those that there are now.
func Check(t testing.TB, words ...string) {
	t.Helper()
	before := goroutines(words)
	t.Cleanup(func() {
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			var left []string
			for id, g := range goroutines(words) {
				if _, ok := before[id]; !ok {
					left = append(left, g)
				}
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines left:\n%s", len(left), strings.Join(left, "\n\n"))
				return
			}
		}
	})
}

func goroutines(words []string) map[string]string {
	buf := make([]byte, 8<<20)
	buf = buf[:runtime.Stack(buf, true)]
	found := make(map[string]string)
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		for _, w := range words {
			if strings.Contains(g, w) {
				id, _, _ := strings.Cut(g, " [")
				found[id] = g
			}
		}
	}
	return found
}

package redis_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails when goroutines of the store outlive the tests. Those of go-redis get the time of their slowest timer.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := leaked(patience); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines that were left behind:\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked waits until no goroutine runs code of this module or of go-redis, and gives those that still do after limit.
func leaked(limit time.Duration) string {
	deadline := time.Now().Add(limit)
	for {
		buf := make([]byte, 4<<20)
		all := string(buf[:runtime.Stack(buf, true)])
		var left []string
		for i, g := range strings.Split(all, "\n\n") {
			if i > 0 && (strings.Contains(g, "flyproxy/pkg/registry") || strings.Contains(g, "go-redis")) {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

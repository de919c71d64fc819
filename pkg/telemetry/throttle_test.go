package telemetry_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

func TestThrottleOncePerKeyAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := telemetry.NewThrottle(time.Minute, 10)
		if n, ok := th.Allow("a"); !ok || n != 0 {
			t.Fatalf("first: %d, %v", n, ok)
		}
		for range 3 {
			if _, ok := th.Allow("a"); ok {
				t.Fatal("allowed twice within the time")
			}
		}
		if _, ok := th.Allow("b"); !ok {
			t.Fatal("another key was held back")
		}
		time.Sleep(time.Minute)
		if n, ok := th.Allow("a"); !ok || n != 3 {
			t.Fatalf("after the time: %d held back, %v; want 3, true", n, ok)
		}
	})
}

func TestThrottleIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := telemetry.NewThrottle(time.Minute, 10)
		burst := func(from string) (allowed int) {
			for i := range 10_000 {
				if _, ok := th.Allow(fmt.Sprint(from, i)); ok {
					allowed++
				}
			}
			return allowed
		}
		if n := burst("x"); n != 11 {
			t.Errorf("%d of 10,000 keys allowed, want 10 and one for the rest", n)
		}
		time.Sleep(time.Minute)
		if n := burst("y"); n != 11 {
			t.Errorf("%d of 10,000 new keys allowed once the old ones ran out, want 11", n)
		}
		if n := burst("z"); n != 0 {
			t.Errorf("%d keys allowed while it is full", n)
		}
	})
}

func TestThrottleLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		log, _ := telemetry.NewLogger(&b, telemetry.FormatText, slog.LevelInfo, false, true)
		th := telemetry.NewThrottle(time.Minute, 10)
		for range 3 {
			th.Log(log, slog.LevelWarn, "k", "it is full", "limit", 5)
		}
		time.Sleep(time.Minute)
		th.Log(log, slog.LevelWarn, "k", "it is full", "limit", 5)
		first, second, _ := strings.Cut(b.String(), "\n")
		if !strings.HasSuffix(first, "WARN  it is full limit=5") || !strings.HasSuffix(second, "WARN  it is full limit=5 suppressed=2\n") {
			t.Errorf("got\n%s", b.String())
		}
	})
}

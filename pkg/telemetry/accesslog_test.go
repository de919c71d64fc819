package telemetry_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

// accessLog makes an access log and gives its lines, without their times.
func accessLog(cfg telemetry.AccessLogConfig) (l *telemetry.AccessLog, lines func() []string) {
	var b bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	return telemetry.NewAccessLog(cfg), func() []string {
		text := strings.TrimSuffix(b.String(), "\n")
		b.Reset()
		if text == "" {
			return nil
		}
		return strings.Split(text, "\n")
	}
}

func TestAccessLogLines(t *testing.T) {
	good := telemetry.Call{
		Service: "shop", Method: "/shop.v1.Cart/Add", Peer: "m1", Region: "ams", Latency: 20 * time.Millisecond, Attempts: 1,
	}
	slow, failed, both, nobody := good, good, good, good
	slow.Latency = time.Second
	failed.Code, failed.Attempts = 14, 3
	both.Code, both.Latency = 4, 2*time.Second
	nobody.Code, nobody.Peer, nobody.Region, nobody.Attempts = 14, "", "", 0
	const tail = " service=shop method=/shop.v1.Cart/Add code="
	slowLine := `level=INFO msg="slow call"` + tail + "OK peer=m1 region=ams latency=1s attempts=1"
	failedLine := `level=INFO msg="call failed"` + tail + "UNAVAILABLE peer=m1 region=ams latency=20ms attempts=3"
	bothFailed := `level=INFO msg="call failed"` + tail + "DEADLINE_EXCEEDED peer=m1 region=ams latency=2s attempts=1"
	bothSlow := `level=INFO msg="slow call"` + tail + "DEADLINE_EXCEEDED peer=m1 region=ams latency=2s attempts=1"
	nobodyLine := `level=INFO msg="call failed"` + tail + `UNAVAILABLE peer="" region="" latency=20ms attempts=0`
	for name, tc := range map[string]struct {
		cfg  telemetry.AccessLogConfig
		want []string
	}{
		"slow and failed": {telemetry.AccessLogConfig{Slow: time.Second, Failed: true}, []string{slowLine, failedLine, bothFailed, nobodyLine}},
		"slow":            {telemetry.AccessLogConfig{Slow: time.Second}, []string{slowLine, bothSlow}},
		"failed":          {telemetry.AccessLogConfig{Failed: true}, []string{failedLine, bothFailed, nobodyLine}},
		"nothing":         {telemetry.AccessLogConfig{}, nil},
	} {
		tc.cfg.PerSecond = 100
		l, lines := accessLog(tc.cfg)
		for _, c := range []telemetry.Call{good, slow, failed, both, nobody} {
			l.CallEnded(c)
		}
		if got := lines(); strings.Join(got, "\n") != strings.Join(tc.want, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
		}
	}
}

func TestAccessLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := accessLog(telemetry.AccessLogConfig{Failed: true, PerSecond: 3})
		burst := func(n int) (got []string) {
			for range n {
				l.CallEnded(telemetry.Call{Service: "s", Method: "/p.S/M", Code: 13})
			}
			return lines()
		}
		if got := burst(10_000); len(got) != 3 || strings.Contains(strings.Join(got, ""), "suppressed") {
			t.Errorf("the first second: %q", got)
		}
		time.Sleep(time.Second)
		got := burst(5)
		if len(got) != 3 || !strings.HasSuffix(got[0], " suppressed=9997") || strings.Contains(got[1]+got[2], "suppressed") {
			t.Errorf("the next second: %q", got)
		}
		// What no line has said is said at the end, once.
		l.Flush()
		if got := lines(); len(got) != 1 || !strings.HasSuffix(got[0], "suppressed=2") {
			t.Errorf("at the end: %q", got)
		}
		l.Flush()
		if got := lines(); got != nil {
			t.Errorf("said again: %q", got)
		}
	})
}

// What a client sends as a method is neither longer nor of other lines than one line has room for.
func TestAccessLogOfOddMethods(t *testing.T) {
	l, lines := accessLog(telemetry.AccessLogConfig{Failed: true, PerSecond: 10})
	l.CallEnded(telemetry.Call{Method: "/p.S/\n\x1b[31mM", Code: 12})
	l.CallEnded(telemetry.Call{Method: "/" + strings.Repeat("ü", 100_000), Code: 12})
	got := lines()
	if len(got) != 2 || strings.ContainsRune(got[0], '\x1b') || len(got[1]) > 500 || !strings.Contains(got[1], "ü…") {
		t.Errorf("%q", got)
	}
}

func TestUsualCallsDoNotAllocateInTheAccessLog(t *testing.T) {
	l, lines := accessLog(telemetry.AccessLogConfig{Slow: time.Second, Failed: true, PerSecond: 1})
	c := telemetry.Call{Service: "shop", Method: "/shop.v1.Cart/Add", Peer: "m1", Region: "ams", Latency: time.Millisecond, Attempts: 1}
	if n := testing.AllocsPerRun(100, func() { l.CallEnded(c) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
	// Neither do those that there is no line left for.
	c.Code = 14
	l.CallEnded(c)
	if n := testing.AllocsPerRun(100, func() { l.CallEnded(c) }); n != 0 {
		t.Errorf("%v allocations a call that is left out", n)
	}
	if got := lines(); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestAccessLogAtOnce(t *testing.T) {
	const goroutines, each, perSecond = 8, 1000, 5
	l, lines := accessLog(telemetry.AccessLogConfig{Failed: true, PerSecond: perSecond})
	began := time.Now()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				l.CallEnded(telemetry.Call{Method: "/p.S/M", Code: 13})
			}
		})
	}
	wg.Wait()
	l.Flush()
	got := lines()
	suppressed, calls := 0, 0
	for _, line := range got {
		if strings.Contains(line, "call failed") {
			calls++
		}
		if _, n, ok := strings.Cut(line, "suppressed="); ok {
			var k int
			if _, err := fmt.Sscan(n, &k); err != nil {
				t.Fatal(err)
			}
			suppressed += k
		}
	}
	seconds := int(time.Since(began)/time.Second) + 1
	if calls > perSecond*seconds || calls+suppressed != goroutines*each {
		t.Errorf("%d lines in %d s, %d left out, of %d calls", calls, seconds, suppressed, goroutines*each)
	}
}

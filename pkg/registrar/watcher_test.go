package registrar_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/flyproxy/flyproxy/pkg/registrar"
)

// quick is a health configuration for tests that count observations. No answer is late by it; tests of those set a Timeout.
var quick = registrar.HealthConfig{Interval: 50 * time.Millisecond, Timeout: patience}

type watch struct {
	*registrar.Watcher
	logs logs

	mu      sync.Mutex // guards changes
	changes []registrar.Health
}

func startWatcher(t *testing.T, address string, cfg registrar.HealthConfig) *watch {
	t.Helper()
	checkLeaks(t)
	w := &watch{}
	var err error
	w.Watcher, err = registrar.NewWatcher(registrar.WatcherConfig{Name: "app", Address: address, Health: cfg, Logger: w.logs.logger(),
		OnChange: func(h registrar.Health) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes = append(w.changes, h)
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

func (w *watch) history() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, h := range w.changes {
		if h.Healthy {
			b.WriteByte('+')
		} else {
			b.WriteByte('-')
		}
	}
	return b.String()
}

// details are what the changes said, in the order of history.
func (w *watch) details() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, h := range w.changes {
		out = append(out, h.Detail)
	}
	return out
}

func (w *watch) awaitState(t *testing.T, state string) time.Duration {
	t.Helper()
	return await(t, "health "+state+"\n"+w.logs.String(), func() bool { return w.Health().State() == state })
}

func TestWatchIsUsedAndActsAtOnce(t *testing.T) {
	a, h := startHealthy(t, "127.0.0.1:0")
	w := startWatcher(t, a.address, registrar.HealthConfig{Interval: neverPolled})
	w.awaitState(t, "healthy")
	if how := w.Health().How; how != "watch" {
		t.Errorf("how %q", how)
	}
	h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	t.Logf("NOT_SERVING took %v", w.awaitState(t, "unhealthy"))
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	w.awaitState(t, "healthy")
	await(t, "changes +-+", func() bool { return w.history() == "+-+" })
	if n := w.logs.count("how=watch why="); n != 1 {
		t.Errorf("the way of asking was logged %d times:\n%s", n, w.logs.String())
	}
}

// A crash closes the listener and every connection at once.
func TestCrashIsKnownAtOnce(t *testing.T) {
	for _, mode := range []registrar.HealthMode{registrar.HealthWatch, registrar.HealthCheck, registrar.HealthTCP} {
		t.Run(string(mode), func(t *testing.T) {
			a, _ := startHealthy(t, "127.0.0.1:0")
			w := startWatcher(t, a.address, registrar.HealthConfig{Mode: mode, Interval: neverPolled})
			w.awaitState(t, "healthy")
			a.Stop()
			t.Logf("the crash was known after %v", w.awaitState(t, "unhealthy"))
			startHealthy(t, a.address)
			t.Logf("the new start was known after %v", w.awaitState(t, "healthy"))
		})
	}
}

func TestFallsBackToCheckAndThenToTCP(t *testing.T) {
	t.Run("check", func(t *testing.T) {
		a, c := startCheckOnly(t)
		w := startWatcher(t, a.address, quick)
		w.awaitState(t, "healthy")
		if w.Health().How != "check" || w.logs.count("how=check why=") != 1 {
			t.Errorf("%+v\n%s", w.Health(), w.logs.String())
		}
		c.status.Store(int32(healthpb.HealthCheckResponse_NOT_SERVING))
		w.awaitState(t, "unhealthy")
	})
	t.Run("tcp", func(t *testing.T) {
		a := startApp(t, "127.0.0.1:0", nil)
		w := startWatcher(t, a.address, quick)
		w.awaitState(t, "healthy")
		if w.Health().How != "tcp" || w.logs.count("how=tcp why=") != 1 {
			t.Errorf("%+v\n%s", w.Health(), w.logs.String())
		}
		a.Stop()
		t.Logf("the crash was known after %v", w.awaitState(t, "unhealthy"))
	})
	t.Run("none allowed", func(t *testing.T) {
		a := startApp(t, "127.0.0.1:0", nil)
		cfg := quick
		cfg.Mode = registrar.HealthCheck
		w := startWatcher(t, a.address, cfg)
		w.awaitState(t, "unhealthy")
		if w.logs.count("set it to auto or tcp") != 1 {
			t.Errorf("no advice in the log:\n%s", w.logs.String())
		}
	})
}

func TestIndefiniteAnswersCountTowardFall(t *testing.T) {
	t.Run("hanging check", func(t *testing.T) {
		a, c := startCheckOnly(t)
		cfg := quick
		cfg.Fall, cfg.Timeout = 3, 100*time.Millisecond
		w := startWatcher(t, a.address, cfg)
		w.awaitState(t, "healthy")
		was := len(w.history())
		c.hangs.Store(3) // and answers again: three must be enough
		await(t, "unhealthy, and healthy again", func() bool { return len(w.history()) >= was+2 })
		if detail := w.details()[was]; !strings.Contains(detail, "DeadlineExceeded") {
			t.Errorf("detail %q", detail)
		}
	})
	t.Run("error status", func(t *testing.T) {
		a, c := startCheckOnly(t)
		cfg := quick
		cfg.Fall = 3
		w := startWatcher(t, a.address, cfg)
		w.awaitState(t, "healthy")
		c.code.Store(uint32(codes.PermissionDenied))
		c.failures.Store(3)
		await(t, "unhealthy, and healthy again", func() bool { return w.history() == "+-+" })
		if w.logs.count("demands credentials") != 1 {
			t.Errorf("no advice in the log:\n%s", w.logs.String())
		}
	})
	t.Run("fewer are forgiven", func(t *testing.T) {
		a, c := startCheckOnly(t)
		cfg := quick
		cfg.Fall = 3
		w := startWatcher(t, a.address, cfg)
		w.awaitState(t, "healthy")
		c.code.Store(uint32(codes.Internal))
		for range 3 {
			c.failures.Store(2)
			await(t, "both errors", func() bool { return c.failures.Load() <= 0 })
			// The second good answer comes after the first was counted.
			checks := c.checks.Load()
			await(t, "two more answers", func() bool { return c.checks.Load() >= checks+2 })
		}
		if got := w.history(); got != "+" {
			t.Errorf("changes %s", got)
		}
	})
}

// An app that hangs keeps its Watch open and says nothing on it.
func TestHangBehindAnOpenWatch(t *testing.T) {
	h := &hangingHealth{Server: health.NewServer()}
	a := startApp(t, "127.0.0.1:0", func(s *grpc.Server) { healthpb.RegisterHealthServer(s, h) })
	cfg := quick
	cfg.Timeout = 100 * time.Millisecond
	w := startWatcher(t, a.address, cfg)
	w.awaitState(t, "healthy")
	if w.Health().How != "watch" {
		t.Errorf("how %q", w.Health().How)
	}
	h.hang.Store(true)
	w.awaitState(t, "unhealthy")
	h.hang.Store(false)
	w.awaitState(t, "healthy")
}

func TestRiseNeedsGoodAnswersInARow(t *testing.T) {
	for _, mode := range []registrar.HealthMode{registrar.HealthWatch, registrar.HealthCheck, registrar.HealthTCP} {
		t.Run(string(mode), func(t *testing.T) {
			a, _ := startHealthy(t, "127.0.0.1:0")
			cfg := quick
			cfg.Mode, cfg.Rise = mode, 4
			began := time.Now()
			w := startWatcher(t, a.address, cfg)
			w.awaitState(t, "healthy")
			if d := time.Since(began); d < 3*cfg.Interval {
				t.Errorf("healthy after %v, though 4 answers take at least %v", d, 3*cfg.Interval)
			}
		})
	}
}

func TestUnknownServiceNamesTheKey(t *testing.T) {
	for _, mode := range []registrar.HealthMode{registrar.HealthWatch, registrar.HealthCheck} {
		t.Run(string(mode), func(t *testing.T) {
			a, h := startHealthy(t, "127.0.0.1:0")
			cfg := quick
			cfg.Mode, cfg.Service = mode, "battle.v1.Battel"
			w := startWatcher(t, a.address, cfg)
			w.awaitState(t, "unhealthy")
			if !strings.Contains(w.Health().Detail, `"battle.v1.Battel" (health.service)`) {
				t.Errorf("detail %q", w.Health().Detail)
			}
			if n := w.logs.count("set health.service"); n != 1 {
				t.Errorf("%d lines of advice in the log:\n%s", n, w.logs.String())
			}
			h.SetServingStatus("battle.v1.Battel", healthpb.HealthCheckResponse_SERVING)
			w.awaitState(t, "healthy")
		})
	}
}

// An app that stops gracefully waits for its open streams, a Watch too; and one that limits the age of its connections is not ill.
func TestWatchDoesNotHoldAnAppBack(t *testing.T) {
	t.Run("graceful stop", func(t *testing.T) {
		a, _ := startHealthy(t, "127.0.0.1:0")
		w := startWatcher(t, a.address, registrar.HealthConfig{})
		w.awaitState(t, "healthy")
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			a.GracefulStop()
		}()
		w.awaitState(t, "unhealthy")
		select {
		case <-stopped:
		case <-time.After(patience):
			t.Error("GracefulStop still waits")
			a.Stop()
			<-stopped
		}
	})
	t.Run("stop, mode tcp", func(t *testing.T) {
		a := startApp(t, "127.0.0.1:0", nil)
		w := startWatcher(t, a.address, registrar.HealthConfig{Mode: registrar.HealthTCP})
		w.awaitState(t, "healthy")
		began := time.Now()
		a.GracefulStop()
		if d := time.Since(began); d > patience { // grpc-go would wait for 2 minutes
			t.Errorf("GracefulStop took %v", d)
		}
		w.awaitState(t, "unhealthy")
	})
	t.Run("connections cut", func(t *testing.T) {
		h := &hangingHealth{Server: health.NewServer()}
		a := startApp(t, "127.0.0.1:0", func(s *grpc.Server) { healthpb.RegisterHealthServer(s, h) })
		c := startCutter(t, a.address)
		cfg := quick
		cfg.Fall = 1
		w := startWatcher(t, c.Addr().String(), cfg)
		w.awaitState(t, "healthy")
		for i := range int64(5) {
			await(t, "connected again", func() bool { return c.open.Load() == i+1 })
			seen := h.checks.Load()
			await(t, "in use", func() bool { return h.checks.Load() > seen })
			c.cut()
		}
		if got := w.history(); got != "+" {
			t.Errorf("changes %s\n%s", got, w.logs.String())
		}
	})
	t.Run("connection age", func(t *testing.T) {
		var seen connections
		a := startApp(t, "127.0.0.1:0", func(s *grpc.Server) { healthpb.RegisterHealthServer(s, health.NewServer()) },
			grpc.StatsHandler(&seen), grpc.KeepaliveParams(keepalive.ServerParameters{
				MaxConnectionAge: 200 * time.Millisecond, MaxConnectionAgeGrace: 50 * time.Millisecond,
			}))
		cfg := quick
		cfg.Fall = 1
		w := startWatcher(t, a.address, cfg)
		w.awaitState(t, "healthy")
		await(t, "five connections have aged", func() bool { return seen.begun.Load() > 5 })
		if got := w.history(); got != "+" {
			t.Errorf("changes %s\n%s", got, w.logs.String())
		}
	})
}

func TestNotAnHTTP2Server(t *testing.T) {
	t.Run("auto", func(t *testing.T) {
		w := startWatcher(t, startRude(t, "127.0.0.1:0").Addr().String(), quick)
		w.awaitState(t, "unhealthy")
		if !strings.Contains(w.Health().Detail, "plaintext HTTP/2") {
			t.Errorf("detail %q", w.Health().Detail)
		}
	})
	t.Run("tcp", func(t *testing.T) {
		l := startRude(t, "127.0.0.1:0")
		cfg := quick
		cfg.Mode = registrar.HealthTCP
		w := startWatcher(t, l.Addr().String(), cfg)
		w.awaitState(t, "healthy")
		await(t, "some connects", func() bool { return l.accepted.Load() > 3 })
		l.Close()
		w.awaitState(t, "unhealthy")
		await(t, "changes +-", func() bool { return w.history() == "+-" })
	})
}

// An app that never becomes healthy is worth a warning after 10 s, and then one a minute.
func TestNeverHealthySaysWhatToCheck(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	l.Close() // so that its address refuses
	synctest.Test(t, func(t *testing.T) {
		w := startWatcher(t, l.Addr().String(), registrar.HealthConfig{})
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{9 * time.Second, 0}, {2 * time.Second, 1}, {58 * time.Second, 1}, {2 * time.Second, 2}} {
			time.Sleep(step.after)
			if got := w.logs.count("still not healthy"); got != step.want {
				t.Errorf("%d warnings, want %d:\n%s", got, step.want, w.logs.String())
			}
		}
		if w.logs.count("GRPC_PORT") == 0 || w.logs.count("connection refused") == 0 {
			t.Errorf("no advice in the log:\n%s", w.logs.String())
		}
	})
}

func TestModeNone(t *testing.T) {
	w := startWatcher(t, "127.0.0.1:1", registrar.HealthConfig{Mode: registrar.HealthNone, Rise: 3})
	w.awaitState(t, "healthy")
}

func TestWatcherRefusesBadConfig(t *testing.T) {
	if _, err := registrar.NewWatcher(registrar.WatcherConfig{Address: "here"}); err == nil {
		t.Error("an address without a port was accepted")
	}
	_, err := registrar.NewWatcher(registrar.WatcherConfig{Address: "127.0.0.1:1", Health: registrar.HealthConfig{Mode: "grpc"}})
	if err == nil || !strings.Contains(err.Error(), "use auto, watch, check, tcp or none") {
		t.Errorf("err %v", err)
	}
}

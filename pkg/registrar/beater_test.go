package registrar_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registrar"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

const (
	interval = 5 * time.Second
	lease    = 15 * time.Second
)

// logs collects a log for tests to look into.
type logs struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), s)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func instance(id string) registry.Instance {
	return registry.Instance{Service: "battle", ID: id, Incarnation: "new", Address: "[::1]:50051", GRPCPort: 50051,
		State: registry.Serving}
}

func key(id string) registry.Key { return registry.Key{Service: "battle", ID: id} }

// startBeater runs a Beater on s until the test's end.
func startBeater(t *testing.T, cfg registrar.BeaterConfig) *registrar.Beater {
	t.Helper()
	b, err := registrar.NewBeater(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b
}

func TestOneBeatEachIntervalForAllInstances(t *testing.T) {
	for _, n := range []int{0, 1, 3} {
		synctest.Test(t, func(t *testing.T) {
			s := newMemory()
			b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval, Lease: lease,
				Load:   func() registry.Load { return registry.Load{InFlight: 7} },
				Wanted: func(most int) []registry.Key { return make([]registry.Key, most) },
			})
			for i := range n {
				b.Put(instance(string(rune('a' + i))))
			}
			time.Sleep(100 * interval)
			synctest.Wait()
			if got := len(s.beats); got < 95 || got > 106 {
				t.Errorf("%d instances: %d beats in 100 intervals", n, got)
			}
			for i := 1; i < len(s.beats); i++ {
				if gap := s.beats[i].at.Sub(s.beats[i-1].at); gap < interval*9/10 || gap > interval*11/10 {
					t.Errorf("%d instances: beat %d after %v", n, i, gap)
				}
				if got := s.beats[i]; len(got.Owned) != n || len(got.Ask) != registry.MaxAsk || got.Lease != lease {
					t.Errorf("%d instances: beat %d carries %d, asks %d, lease %v", n, i, len(got.Owned), len(got.Ask), got.Lease)
				}
				for _, o := range s.beats[i].Owned {
					if o.Load.InFlight != 7 || o.Incarnation != "new" {
						t.Errorf("beat %d owns %+v", i, o)
					}
				}
			}
			if len(s.registers) != n {
				t.Errorf("%d instances: %d registrations", n, len(s.registers))
			}
		})
	}
}

func TestBeatsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval})
		time.Sleep(100 * interval)
		synctest.Wait()
		gaps := map[time.Duration]bool{}
		for i := 1; i < len(s.beats); i++ {
			gaps[s.beats[i].at.Sub(s.beats[i-1].at)] = true
		}
		if len(gaps) < 50 {
			t.Errorf("only %d different gaps", len(gaps))
		}
	})
}

func TestOnlyTheFirstRegistrationClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		old := instance("a")
		old.Incarnation = "old"
		s.records[key("a")] = memoryRecord{inst: old}
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval})
		b.Put(instance("a"))
		synctest.Wait()
		if got := s.records[key("a")].inst.Incarnation; got != "new" {
			t.Fatalf("after the first registration %q holds the record", got)
		}
		changed := instance("a")
		changed.GRPCServices = []string{"battle.v1.Battle"}
		b.Put(changed) // replaces
		synctest.Wait()
		b.Put(changed) // does nothing
		synctest.Wait()
		if err := b.Withdraw(t.Context(), key("a")); err != nil {
			t.Fatal(err)
		}
		if s.holds(key("a")) {
			t.Error("still there after Withdraw")
		}
		b.Put(changed)
		synctest.Wait()
		var claims []bool
		for _, r := range s.registers {
			claims = append(claims, r.claim)
		}
		if len(claims) != 3 || !claims[0] || claims[1] || claims[2] {
			t.Errorf("claims: %v, want one of three, the first", claims)
		}
		if got := b.Standing(key("a")).Phase; got != registrar.Registered {
			t.Errorf("phase %q", got)
		}
	})
}

func TestUnknownRegistersAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval})
		b.Put(instance("a"))
		b.Put(instance("b"))
		synctest.Wait()
		s.do(func() { clear(s.records) })
		time.Sleep(interval * 11 / 10)
		synctest.Wait()
		if !s.holds(key("a")) || !s.holds(key("b")) {
			t.Error("not back within one beat")
		}
		for _, r := range s.registers[2:] {
			if r.claim {
				t.Error("claimed a second time")
			}
			if last := s.beats[len(s.beats)-1].at; !r.at.Equal(last) {
				t.Errorf("registered %v after the beat that said unknown", r.at.Sub(last))
			}
		}
	})
}

func TestSupersededStopsLoudlyAndComesBackOnlyWhenTheHolderIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		var told []registry.Key
		var l logs
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval, Lease: lease, Logger: l.logger(),
			OnSuperseded: func(k registry.Key) { told = append(told, k) }})
		b.Put(instance("a"))
		b.Put(instance("other"))
		synctest.Wait()
		newer := instance("a")
		newer.Incarnation = "newer"
		s.do(func() { s.records[key("a")] = memoryRecord{inst: newer} })
		time.Sleep(100 * interval)
		b.Put(instance("a")) // a flap of the app changes nothing
		b.Drop(key("a"))
		b.Put(instance("a"))
		time.Sleep(interval)
		synctest.Wait()
		if len(told) != 1 || told[0] != key("a") {
			t.Errorf("OnSuperseded told %v", told)
		}
		if n := l.count("level=ERROR"); n != 1 {
			t.Errorf("%d errors in the log:\n%s", n, l.String())
		}
		if got := s.records[key("a")].inst.Incarnation; got != "newer" {
			t.Errorf("%q holds the record", got)
		}
		if st := b.Standing(key("a")); st.Phase != registrar.Superseded || !errors.Is(st.Err, registry.ErrSuperseded) {
			t.Errorf("standing %+v", st)
		}
		if last := s.beats[len(s.beats)-1]; len(last.Owned) != 1 || last.Owned[0].Key != key("other") {
			t.Errorf("last beat owns %v", last.Owned)
		}
		if got := len(s.registers); got > 2+40 {
			t.Errorf("asked %d times in 101 intervals", got-2)
		}
		if len(s.removals) != 0 {
			t.Errorf("it removed %v", s.removals)
		}
		s.do(func() { delete(s.records, key("a")) })
		time.Sleep(lease * 11 / 10)
		synctest.Wait()
		if got := b.Standing(key("a")).Phase; got != registrar.Registered {
			t.Errorf("phase %q after the holder had gone", got)
		}
	})
}

func TestRegistrationIsTriedUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval, Lease: 6 * time.Second})
		s.do(func() { s.fail = registry.ErrAuth })
		b.Put(instance("a"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if st := b.Standing(key("a")); st.Phase != registrar.Pending || !errors.Is(st.Err, registry.ErrAuth) {
			t.Errorf("standing %+v", st)
		}
		for i := 1; i < len(s.registers); i++ {
			gap := s.registers[i].at.Sub(s.registers[i-1].at)
			if gap < 50*time.Millisecond || gap > 2*time.Second { // a third of the lease
				t.Errorf("attempt %d after %v", i, gap)
			}
			if !s.registers[i].claim {
				t.Errorf("attempt %d does not claim, though none has succeeded", i)
			}
		}
		s.do(func() { s.fail = nil })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !s.holds(key("a")) {
			t.Error("not registered")
		}
	})
}

func TestFailedBeatIsTriedSoonerAndNeverTwoAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		s.fail = registry.ErrUnavailable
		failed := 0
		var l logs
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval, OnError: func(error) { failed++ }, Logger: l.logger()})
		time.Sleep(time.Minute)
		synctest.Wait()
		if failed != len(s.beats) || b.Status().Failing != failed || !errors.Is(b.Status().Err, registry.ErrUnavailable) {
			t.Errorf("%d beats, %d told, status %+v", len(s.beats), failed, b.Status())
		}
		for i := 1; i < len(s.beats); i++ {
			if gap := s.beats[i].at.Sub(s.beats[i-1].at); gap < 50*time.Millisecond || gap > time.Second {
				t.Errorf("attempt %d after %v", i, gap)
			}
		}
		if n := l.count("heartbeat failed"); n != 1 {
			t.Errorf("%d lines in the log in a minute", n)
		}

		before := len(s.beats)
		s.do(func() { s.fail, s.hang = nil, make(chan struct{}) }) // it accepts commands and never answers
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := len(s.beats) - before; got < 30/3-1 || got > 30/2+1 { // 2 s of timeout and up to 1 s of pause
			t.Errorf("%d attempts in 30 s at a store that hangs", got)
		}
		if s.most != 1 {
			t.Errorf("%d beats at a time", s.most)
		}
		s.do(func() { close(s.hang); s.hang = nil })
		time.Sleep(time.Second)
		synctest.Wait()
		if st := b.Status(); st.Failing != 0 || st.Err != nil || st.LastBeat.IsZero() {
			t.Errorf("status %+v", st)
		}
	})
}

func TestFirstContactAfterAnOutageBringsAllRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval, Lease: lease})
		b.Put(instance("a"))
		synctest.Wait()
		s.do(func() { s.fail = registry.ErrUnavailable; clear(s.records) })
		b.Put(instance("b")) // becomes healthy while the registry is away
		time.Sleep(10 * time.Minute)
		s.do(func() { s.fail = nil })
		time.Sleep(time.Second)
		synctest.Wait()
		if !s.holds(key("a")) || !s.holds(key("b")) {
			t.Errorf("a second after the registry is back: a %v, b %v", s.holds(key("a")), s.holds(key("b")))
		}
	})
}

func TestClockJumpBeatsAtOnce(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := newMemory()
			var mu sync.Mutex
			var shift time.Duration
			b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: time.Minute, Wall: func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return time.Now().Add(shift)
			}})
			b.Put(instance("a"))
			time.Sleep(10 * time.Second)
			synctest.Wait()
			before := len(s.beats)
			s.do(func() { clear(s.records) })
			mu.Lock()
			shift = jump
			mu.Unlock()
			time.Sleep(time.Second)
			synctest.Wait()
			if got := len(s.beats) - before; got != 1 {
				t.Errorf("%d beats within a second of a jump by %v", got, jump)
			}
			if !s.holds(key("a")) {
				t.Error("not registered again")
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if got := len(s.beats) - before; got != 1 {
				t.Errorf("%d beats for one jump", got)
			}
		})
	}
}

func TestClockJumpCallsOffABeatOnADeadConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		var mu sync.Mutex
		var shift time.Duration
		startBeater(t, registrar.BeaterConfig{Store: s, Interval: time.Minute, Timeout: 50 * time.Second, Lease: 5 * time.Minute,
			Wall: func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return time.Now().Add(shift)
			}})
		synctest.Wait()
		s.do(func() { s.hang = make(chan struct{}) })
		time.Sleep(67 * time.Second) // a beat is under way
		synctest.Wait()
		before := len(s.beats)
		s.do(func() { s.hang = nil })
		mu.Lock()
		shift = time.Hour
		mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := len(s.beats) - before; got != 1 || s.most != 1 {
			t.Errorf("%d beats within a second of the jump, %d at a time", got, s.most)
		}
	})
}

func TestBeaterLifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, err := registrar.NewBeater(registrar.BeaterConfig{Store: newMemory(), Interval: interval, Lease: interval}); err == nil {
			t.Error("a lease of one interval was accepted")
		}
		if _, err := registrar.NewBeater(registrar.BeaterConfig{}); err == nil {
			t.Error("no store was accepted")
		}
		s := newMemory()
		b, err := registrar.NewBeater(registrar.BeaterConfig{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		b.Put(instance("early")) // before Run
		if err := b.Withdraw(t.Context(), key("early")); err != nil {
			t.Errorf("Withdraw before Run: %v", err)
		}
		b.Put(instance("kept"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		synctest.Wait()
		if s.holds(key("early")) || !s.holds(key("kept")) {
			t.Errorf("early %v, kept %v", s.holds(key("early")), s.holds(key("kept")))
		}
		if b.Run(ctx) == nil {
			t.Error("a second Run was accepted")
		}
		s.do(func() { s.hang = make(chan struct{}) })
		b.Put(instance("slow"))
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := b.Withdraw(t.Context(), key("kept")); !errors.Is(err, registrar.ErrStopped) {
			t.Errorf("Withdraw after the end: %v", err)
		}
		if !s.holds(key("kept")) {
			t.Error("the end of Run deregistered")
		}
	})
}

func TestIncarnationsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		seen[registrar.NewIncarnation()] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different of 1000", len(seen))
	}
}

package registrar_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registrar"
)

func TestWithdrawGivesUpAtItsDeadlineAndGoesOnBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval, Lease: lease})
		b.Put(instance("a"))
		synctest.Wait()
		s.do(func() { s.hang = make(chan struct{}) })
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		err := b.Withdraw(ctx, key("a"))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("Withdraw: %v after %v", err, time.Since(began))
		}
		if got := b.Standing(key("a")).Phase; got != registrar.Withdrawing {
			t.Errorf("phase %q", got)
		}
		s.do(func() { close(s.hang); s.hang = nil })
		time.Sleep(time.Second)
		synctest.Wait()
		if s.holds(key("a")) || b.Standing(key("a")).Phase != registrar.Withdrawn {
			t.Errorf("held %v, phase %q", s.holds(key("a")), b.Standing(key("a")).Phase)
		}
		for _, beat := range s.beats[1:] {
			if len(beat.Owned) > 0 && beat.at.After(began.Add(3*time.Second)) {
				t.Errorf("a beat renewed what is being withdrawn")
			}
		}
		if err := b.Withdraw(t.Context(), key("a")); err != nil {
			t.Errorf("a second Withdraw: %v", err)
		}
		if err := b.Withdraw(t.Context(), key("never put")); err != nil {
			t.Errorf("Withdraw of nothing: %v", err)
		}
	})
}

func TestWithdrawDoesNotWaitForASlowRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval})
		synctest.Wait()
		s.do(func() { s.hang = make(chan struct{}) })
		b.Put(instance("a"))
		synctest.Wait()
		s.do(func() { s.hang = nil }) // only the registration under way hangs
		began := time.Now()
		if err := b.Withdraw(t.Context(), key("a")); err != nil || time.Since(began) != 0 {
			t.Errorf("Withdraw: %v after %v", err, time.Since(began))
		}
		if len(s.removals) != 1 {
			t.Errorf("removals: %v: the registration may have arrived", s.removals)
		}
	})
}

// A registration whose answer was lost may reach the registry after the withdrawal that followed it.
func TestLateRegistrationIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval})
		synctest.Wait()
		s.do(func() { s.hang = make(chan struct{}) })
		b.Put(instance("a"))
		synctest.Wait()
		s.do(func() { s.hang = nil })
		if err := b.Withdraw(t.Context(), key("a")); err != nil {
			t.Fatal(err)
		}
		s.do(func() { s.records[key("a")] = memoryRecord{inst: instance("a")} })
		time.Sleep(interval * 11 / 10)
		synctest.Wait()
		if s.holds(key("a")) {
			t.Error("still there one beat later")
		}
		time.Sleep(2 * interval)
		synctest.Wait()
		if last := s.beats[len(s.beats)-1]; len(last.Owned) != 0 {
			t.Errorf("beats still carry %v", last.Owned)
		}
	})
}

// What a beat says of a key is void once the key has been written or withdrawn meanwhile.
func TestLateAnswerOfABeatIsVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval, Timeout: time.Minute})
		b.Put(instance("a"))
		b.Put(instance("b"))
		synctest.Wait()
		delay := make(chan struct{})
		s.do(func() { s.delay = delay; delete(s.records, key("b")) })
		time.Sleep(interval * 11 / 10)
		synctest.Wait()
		b.Drop(key("a"))         // the answer says current
		changed := instance("b") // the answer says unknown
		changed.Weight = 7
		b.Put(changed)
		synctest.Wait()
		s.do(func() { s.delay = nil })
		close(delay)
		synctest.Wait()
		if len(s.removals) != 1 || len(s.registers) != 3 {
			t.Errorf("%d removals, %d registrations: want 1, 3", len(s.removals), len(s.registers))
		}
	})
}

func TestPutAndDropKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval})
		for range 100 {
			b.Put(instance("a"))
			b.Drop(key("a"))
			b.Put(instance("b"))
			b.Drop(key("b"))
			b.Put(instance("b"))
		}
		synctest.Wait()
		if s.holds(key("a")) || !s.holds(key("b")) {
			t.Errorf("a %v, b %v", s.holds(key("a")), s.holds(key("b")))
		}
		if got := b.Standing(key("b")).Phase; got != registrar.Registered {
			t.Errorf("phase of b %q", got)
		}
	})
}

func TestLostAnswerOfAWithdrawnRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		s.lost = true
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval})
		b.Put(instance("a"))
		synctest.Wait()
		if err := b.Withdraw(t.Context(), key("a")); err != nil || s.holds(key("a")) {
			t.Errorf("Withdraw: %v, held %v", err, s.holds(key("a")))
		}
	})
}

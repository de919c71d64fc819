package registrar_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registrar"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// The version that the claim got goes into all later registrations and beats, and into no record of the claim itself.
func TestRankOfTheClaimTravels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		s.version = 41
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval})
		b.Put(instance("a"))
		synctest.Wait()
		s.do(func() { clear(s.records) })
		time.Sleep(3 * interval)
		b.Put(instance("a")) // the rank makes it no other record
		synctest.Wait()
		if err := b.Withdraw(t.Context(), key("a")); err != nil {
			t.Error(err)
		}
		b.Put(instance("a"))
		time.Sleep(3 * interval)
		synctest.Wait()
		if len(s.registers) != 3 || !s.registers[0].claim || s.registers[0].inst.ClaimedAt != 0 {
			t.Fatalf("registrations: %+v", s.registers)
		}
		for _, r := range s.registers[1:] {
			if r.claim || r.inst.ClaimedAt != 42 {
				t.Errorf("a later registration: %+v", r)
			}
		}
		for _, beat := range s.beats {
			for _, o := range beat.Owned {
				if o.ClaimedAt != 42 {
					t.Errorf("a beat owns %+v", o)
				}
			}
		}
		if got := b.Standing(key("a")).Phase; got != registrar.Registered {
			t.Errorf("phase %q", got)
		}
	})
}

// A superseded process that is back after a loss of data gives way to the newer one, which is not told to stop.
func TestNewerProcessTakesItsRecordBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		superseded := 0
		b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval, OnSuperseded: func(registry.Key) { superseded++ }})
		s.version = 41
		b.Put(instance("a"))
		synctest.Wait()
		older := instance("a")
		older.Incarnation, older.ClaimedAt = "older", 7
		s.do(func() { s.records[key("a")] = memoryRecord{inst: older} })
		time.Sleep(interval * 11 / 10)
		synctest.Wait()
		if got := s.records[key("a")].inst.Incarnation; got != "new" || superseded != 0 {
			t.Errorf("%q holds the record, %d told superseded", got, superseded)
		}
	})
}

func TestBadRecordNamesTheKeysToChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for fault, keys := range map[error][]string{
			registry.ErrNetwork: {"registration.address", "registry.allowed_networks"},
			registry.ErrAddress: {"registration.address"},
		} {
			s := newMemory()
			s.fail = fault
			var l logs
			b := startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval, Logger: l.logger()})
			b.Put(instance("a"))
			synctest.Wait()
			err := b.Standing(key("a")).Err
			if !errors.Is(err, fault) {
				t.Errorf("standing has %v, want %v", err, fault)
				continue
			}
			for _, k := range keys {
				if !strings.Contains(err.Error(), k) || l.count(k) == 0 {
					t.Errorf("no %s in %q, or in the log:\n%s", k, err, l.String())
				}
			}
		}
	})
}

func TestFirstFailedBeatSaysNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		s.fail = registry.ErrUnavailable
		var l logs
		startBeater(t, registrar.BeaterConfig{Store: s, Interval: interval, Logger: l.logger()})
		synctest.Wait()
		if l.count("last_beat=never") != 1 || l.count("0001-01-01") != 0 {
			t.Errorf("log:\n%s", l.String())
		}
		s.do(func() { s.fail = nil })
		time.Sleep(interval)
		s.do(func() { s.fail = registry.ErrUnavailable })
		time.Sleep(interval * 11 / 10)
		synctest.Wait()
		if l.count("last_beat=20") == 0 { // the fake clock begins in the year 2000
			t.Errorf("log:\n%s", l.String())
		}
	})
}

package redis_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

func testClaim(t *testing.T, b backend) {
	f := b.open(t)
	first, second := instance("echo", "m1", "one"), instance("echo", "m1", "two")
	f.register(first, false) // nobody stands there
	f.register(second, true)
	err := f.registerError(first, false)
	if !errors.Is(err, registry.ErrSuperseded) || !strings.Contains(err.Error(), "two") {
		t.Errorf("register of the old one: %v", err)
	}
	changed := second
	changed.State = registry.Draining
	f.register(changed, false)
	snap := f.snapshot()
	if len(snap.Instances) != 1 || snap.Instances[0].Incarnation != "two" || snap.Instances[0].State != registry.Draining {
		t.Errorf("there stands %+v", snap.Instances)
	}
}

// What a claim is answered ranks it above all claims before, and below all after; the claim's own record carries no rank.
func testClaimRank(t *testing.T, b backend) {
	f := b.open(t)
	last := uint64(0)
	for _, incarnation := range []string{"one", "two", "three"} {
		inst := instance("echo", "m1", incarnation)
		inst.ClaimedAt = 7 // ignored
		before := uint64(f.now().UnixMicro())
		got := f.register(inst, true)
		if snap := f.snapshot(); got <= last || got < before || got != snap.Version || snap.Instances[0].ClaimedAt != 0 {
			t.Errorf("the claim of %s was answered %d after %d, at %d µs; there stands %+v", incarnation, got, last, before, snap)
		}
		last = got
		f.register(instance("other", "m1", incarnation), true) // moves the version too
	}
	// The answer of a claim was lost and it is repeated: ranked a little later than it was, but before whoever comes next.
	inst := instance("echo", "m1", "three")
	again := f.register(inst, true)
	if next := f.register(instance("echo", "m1", "four"), true); again <= last || again >= next {
		t.Errorf("a repeated claim was answered %d, the first time %d, the next claim %d", again, last, next)
	}
	inst.ClaimedAt = again
	f.do("DEL", f.key("instances"))
	f.register(inst, false)
	if snap := f.snapshot(); len(snap.Instances) != 1 || snap.Instances[0].ClaimedAt != again {
		t.Errorf("there stands %+v, want the rank %d in it", snap.Instances, again)
	}
}

// A superseded process goes on asking, without a claim. When the data are lost it may be the first to find nobody.
func testSupersededAfterLoss(t *testing.T, b backend) {
	f := b.open(t)
	old, fresh := instance("echo", "m1", "old"), instance("echo", "m1", "fresh")
	old.ClaimedAt = f.register(old, true)
	fresh.ClaimedAt = f.register(fresh, true)
	standing := func(inst registry.Instance) registry.Standing { return f.beat(inst).Standings[0] }
	holds := func(step, incarnation string) {
		t.Helper()
		if snap := f.snapshot(); len(snap.Instances) != 1 || snap.Instances[0].Incarnation != incarnation {
			t.Fatalf("%s there stands %+v, want %s", step, snap.Instances, incarnation)
		}
	}
	if got := standing(old); got != registry.Superseded {
		t.Errorf("the standing of the old one is %v", got)
	}
	for range 3 {
		f.do("FLUSHALL")
		f.register(old, false)
		holds("the old one came first:", "old")
		if got := standing(old); got != registry.Current {
			t.Errorf("the standing of the old one while it holds the record is %v", got)
		}
		if got := standing(fresh); got != registry.Unknown {
			t.Errorf("the standing of the newer one under the old one's record is %v, want unknown", got)
		}
		f.register(fresh, false)
		holds("then the newer one:", "fresh")

		f.do("FLUSHALL")
		f.register(fresh, false)
		for range 2 {
			if got := standing(old); got != registry.Superseded {
				t.Errorf("the standing of the old one is %v", got)
			}
			if err := f.registerError(old, false); !errors.Is(err, registry.ErrSuperseded) {
				t.Errorf("register of the old one: %v", err)
			}
			if got := standing(fresh); got != registry.Current {
				t.Errorf("the standing of the newer one is %v", got)
			}
		}
		holds("the newer one came first:", "fresh")
	}
	// Who claims anew ranks above both, and who never claimed below.
	f.register(instance("echo", "m1", "newest"), true)
	never := instance("echo", "m1", "never")
	for _, inst := range []registry.Instance{old, fresh, never} {
		if err := f.registerError(inst, false); !errors.Is(err, registry.ErrSuperseded) || standing(inst) != registry.Superseded {
			t.Errorf("register of %s under a claim: %v", inst.Incarnation, err)
		}
	}
}

package redis_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

func testStandings(t *testing.T, b backend) {
	f := b.open(t)
	mine, other := instance("echo", "m1", "one"), instance("echo", "m2", "one")
	f.register(mine, true)
	f.register(other, true)
	stale, missing := other, instance("echo", "m3", "one")
	stale.Incarnation = "zero"
	f.raw("echo/m4", "not JSON")
	garbage := instance("echo", "m4", "one")
	before := f.number("GET", f.key("version"))
	f.beat() // the first one after silence renews all
	f.do("ZADD", f.key("leases"), f.now().Add(time.Second).UnixMilli(), "echo/m1")
	f.do("ZADD", f.key("leases"), f.now().Add(9*time.Second).UnixMilli(), "echo/m2")

	reply := f.beat(mine, stale, missing, garbage)
	want := []registry.Standing{registry.Current, registry.Superseded, registry.Unknown, registry.Unknown}
	if !slices.Equal(reply.Standings, want) {
		t.Errorf("standings %v, want %v", reply.Standings, want)
	}
	if got := f.leaseOf("echo/m1"); got < lease-5*time.Second {
		t.Errorf("the lease of the current one has %v left", got)
	}
	if got := f.leaseOf("echo/m2"); got > 9*time.Second {
		t.Errorf("a superseded one renewed the lease of its successor to %v", got)
	}
	if after := f.number("GET", f.key("version")); after != before || reply.Version != uint64(before) {
		t.Errorf("a beat that changes no instance moved the version from %d to %d and told %d", before, after, reply.Version)
	}
}

func testDeregister(t *testing.T, b backend) {
	f := b.open(t)
	first, second := instance("echo", "m1", "one"), instance("echo", "m1", "two")
	f.register(first, true)
	f.register(second, true)
	f.beat(second)
	err := f.Deregister(t.Context(), first.Key(), "one")
	if !errors.Is(err, registry.ErrSuperseded) || !strings.Contains(err.Error(), "two") {
		t.Errorf("deregister of the old one: %v", err)
	}
	f.expect("echo/m1")
	for range 2 { // the second time it is not there, which is no error
		if err := f.Deregister(t.Context(), second.Key(), "two"); err != nil {
			t.Error(err)
		}
		f.expect()
	}
	for _, key := range []string{"instances", "leases", "load"} {
		if f.number("EXISTS", f.key(key)) != 0 {
			t.Errorf("%s is left after the last one went", key)
		}
	}
}

func testIdentical(t *testing.T, b backend) {
	f := b.open(t)
	w := f.watch()
	inst := instance("echo", "m1", "one")
	f.register(inst, true)
	w.next()
	version := f.snapshot().Version
	f.do("ZADD", f.key("leases"), f.now().Add(time.Second).UnixMilli(), "echo/m1")
	f.register(inst, false)
	f.register(inst, true)
	if got := f.snapshot().Version; got != version {
		t.Errorf("the version went from %d to %d", version, got)
	}
	if got := f.leaseOf("echo/m1"); got < lease-5*time.Second {
		t.Errorf("the lease was not renewed, %v are left", got)
	}
	w.silent(f)
}

func testPrune(t *testing.T, b backend) {
	f := b.open(t)
	live := instance("echo", "live", "one")
	f.register(live, true)
	var gone []string
	for i := range 250 {
		inst := instance("echo", fmt.Sprintf("m%03d", i), "one")
		gone = append(gone, inst.Key().String())
		f.expired(inst)
	}
	f.do("HSET", f.key("load"), gone[0], "1|{}")
	f.alive()
	w := f.watch()
	version := f.snapshot().Version
	var removed []string
	for i, want := range []int{100, 100, 50, 0} {
		reply := f.beat(live)
		if reply.Pruned != want || reply.Renewed {
			t.Errorf("beat %d pruned %d, want %d; renewed: %v", i, reply.Pruned, want, reply.Renewed)
		}
		if want == 0 {
			break
		}
		if f.do("HGET", f.key("load"), gone[0]) != nil {
			t.Error("the load of a pruned instance stays")
		}
		c := w.next()
		if c.Kind != registry.Remove || len(c.Keys) != want || c.Previous != version || c.Version != reply.Version {
			t.Errorf("the message of beat %d is of kind %d with %d keys, from %d to %d; want %d keys from %d to %d",
				i, c.Kind, len(c.Keys), c.Previous, c.Version, want, version, reply.Version)
		}
		version = c.Version
		for _, k := range c.Keys {
			removed = append(removed, k.String())
		}
	}
	slices.Sort(removed)
	if !slices.Equal(removed, gone) {
		t.Errorf("removed were %v", removed)
	}
	f.expect("echo/live")
	if n := f.number("ZCARD", f.key("leases")); n != 1 {
		t.Errorf("%d leases are left", n)
	}
	if n := f.number("HLEN", f.key("load")); n != 1 {
		t.Errorf("%d loads are left", n)
	}
	w.silent(f)
}

func testOwnExpired(t *testing.T, b backend) {
	f := b.open(t)
	mine, dead := instance("echo", "mine", "one"), instance("echo", "dead", "one")
	f.expired(mine)
	f.expired(dead)
	f.alive()
	if got := f.beat(mine); got.Pruned != 1 || got.Standings[0] != registry.Current {
		t.Errorf("the beat gave %+v", got)
	}
	f.expect("echo/mine")
}

func testSilence(t *testing.T, b backend) {
	f := b.open(t)
	watcherOnly := f.beat()
	if watcherOnly.Renewed || watcherOnly.Pruned != 0 {
		t.Errorf("a beat on nothing gave %+v", watcherOnly)
	}
	var all []string
	for i := range 1203 {
		inst := instance("echo", fmt.Sprintf("m%04d", i), "one")
		all = append(all, inst.Key().String())
		f.raw(inst.Key().String(), encode(t, inst))
		if i%3 != 0 { // some have lost their lease altogether
			f.do("ZADD", f.key("leases"), f.now().Add(-time.Hour).UnixMilli(), inst.Key().String())
		}
	}
	f.do("SET", f.key("beat"), f.now().Add(-lease/2-time.Second).UnixMilli())
	w := f.watch()
	if got := f.beat(); !got.Renewed || got.Pruned != 0 {
		t.Errorf("after silence the beat gave %+v", got)
	}
	if got := f.beat(); got.Renewed || got.Pruned != 0 {
		t.Errorf("the next beat gave %+v", got)
	}
	f.expect(all...)
	if n := f.number("ZCOUNT", f.key("leases"), f.now().Add(lease-5*time.Second).UnixMilli(), "+inf"); n != int64(len(all)) {
		t.Errorf("%d of %d leases are fresh", n, len(all))
	}
	w.silent(f)
	// Now the fleet beats and one does not.
	f.do("ZADD", f.key("leases"), f.now().Add(-time.Millisecond).UnixMilli(), all[0])
	if got := f.beat(); got.Renewed || got.Pruned != 1 {
		t.Errorf("with one dead in a live fleet the beat gave %+v", got)
	}
}

// During a deploy that changes the lease, two lengths share one registry.
func testShorterLease(t *testing.T, b backend) {
	f := b.open(t)
	long := instance("echo", "long", "one")
	f.register(long, true)
	for _, beat := range []string{"the first one on a registry without a last beat", "one after silence"} {
		reply, err := f.Beat(t.Context(), registry.Beat{Lease: time.Second})
		if err != nil || !reply.Renewed {
			t.Fatalf("%s: %+v %v", beat, reply, err)
		}
		if got := f.leaseOf("echo/long"); got < lease-5*time.Second {
			t.Errorf("%s cut another's lease to %v", beat, got)
		}
		f.do("SET", f.key("beat"), f.now().Add(-time.Minute).UnixMilli())
	}
}

func testClockBack(t *testing.T, b backend) {
	f := b.open(t)
	inst := instance("echo", "m1", "one")
	f.register(inst, true)
	future := f.now().Add(time.Hour)
	f.do("SET", f.key("beat"), future.UnixMilli())
	f.do("ZADD", f.key("leases"), future.Add(lease).UnixMilli(), "echo/m1")
	if got := f.beat(); !got.Renewed || got.Pruned != 0 {
		t.Errorf("the beat gave %+v", got)
	}
	if got := f.leaseOf("echo/m1"); got > lease {
		t.Errorf("a lease of %v is left, nobody would prune it for an hour", got)
	}
}

func testMend(t *testing.T, b backend) {
	f := b.open(t)
	for _, id := range []string{"m1", "m2", "m3"} {
		f.register(instance("echo", id, "one"), true)
	}
	f.beat()
	f.do("ZREM", f.key("leases"), "echo/m1")
	f.do("ZADD", f.key("leases"), f.now().Add(9*time.Second).UnixMilli(), "echo/m2")
	f.alive()
	f.beat()
	if got := f.leaseOf("echo/m1"); got < lease-5*time.Second {
		t.Errorf("the one without a lease has %v", got)
	}
	if got := f.leaseOf("echo/m2"); got > 9*time.Second {
		t.Errorf("a lease that was not lost was renewed to %v", got)
	}

	f.do("DEL", f.key("leases"))
	f.alive()
	if got := f.beat(instance("echo", "m1", "one")); got.Pruned != 0 || got.Renewed {
		t.Errorf("the beat gave %+v", got)
	}
	for _, field := range []string{"echo/m1", "echo/m2", "echo/m3"} {
		if got := f.leaseOf(field); got < lease-5*time.Second {
			t.Errorf("%s has %v left", field, got)
		}
	}
}

func testOrphans(t *testing.T, b backend) {
	f := b.open(t)
	f.register(instance("echo", "m1", "one"), true)
	f.beat(instance("echo", "m1", "one"))
	f.do("ZADD", f.key("leases"), f.now().Add(lease).UnixMilli(), "echo/no-record")
	f.alive()
	version := f.snapshot().Version
	f.beat()
	f.do("HSET", f.key("load"), "echo/no-instance", "1|{}")
	f.beat()
	if f.do("ZSCORE", f.key("leases"), "echo/no-record") != nil {
		t.Error("a lease without a record stays")
	}
	if f.do("HGET", f.key("load"), "echo/no-instance") != nil {
		t.Error("a load without an instance stays")
	}
	if f.do("HGET", f.key("load"), "echo/m1") == nil || f.leaseOf("echo/m1") <= 0 {
		t.Error("what belongs to an instance went with the orphans")
	}
	if got := f.snapshot().Version; got != version {
		t.Errorf("the version went from %d to %d", version, got)
	}
}

func testFlushAll(t *testing.T, b backend) {
	f := b.open(t)
	w := f.watch()
	inst := instance("echo", "m1", "one")
	f.register(inst, true)
	before := w.next().Version
	f.beat(inst)
	f.do("FLUSHALL")
	if got := f.beat(inst); got.Standings[0] != registry.Unknown || got.Version >= before {
		t.Errorf("after FLUSHALL the beat gave %+v", got)
	}
	f.register(inst, false)
	if c := w.next(); c.Kind != registry.Put || c.Previous != 0 || c.Version <= before {
		t.Errorf("after FLUSHALL the watch said %+v, it was at %d", c, before)
	}
	if got := f.beat(inst); got.Standings[0] != registry.Current || got.Pruned != 0 {
		t.Errorf("then the beat gave %+v", got)
	}
}

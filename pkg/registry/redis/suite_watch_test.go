package redis_test

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
)

func testVersion(t *testing.T, b backend) {
	f := b.open(t)
	last := uint64(0)
	for i := range 5 {
		before := uint64(f.now().UnixMicro())
		f.register(instance("echo", "m"+strconv.Itoa(i), "one"), true)
		text, _ := f.do("GET", f.key("version")).(string)
		got := f.snapshot().Version
		if text != strconv.FormatUint(got, 10) || got <= last || got < before {
			t.Errorf("version %d (stored as %q) after %d, at %d µs", got, text, last, before)
		}
		last = got
	}
	// One from the future is counted up from; what is no number, or more than a double counts exactly, is not.
	future := uint64(f.now().Add(time.Hour).UnixMicro())
	f.do("SET", f.key("version"), future)
	f.register(instance("echo", "future", "one"), true)
	if got := f.snapshot().Version; got != future+1 {
		t.Errorf("version %d after %d", got, future)
	}
	for _, bad := range []string{"x", "inf", "nan", "-5", "1e300", "9007199254740993"} {
		before := uint64(f.now().UnixMicro())
		f.do("SET", f.key("version"), bad)
		f.register(instance("echo", "bad"+bad, "one"), true)
		if got := f.snapshot().Version; got < before || got > before+uint64(time.Minute.Microseconds()) {
			t.Errorf("version %d after %q", got, bad)
		}
	}
}

func testMessages(t *testing.T, b backend) {
	f := b.open(t)
	w := f.watch()
	version := f.snapshot().Version
	inst := instance("echo", `m"1\ü`, "one")
	drained := inst
	drained.State = registry.Draining
	f.register(inst, true)
	f.register(drained, false)
	if err := f.Deregister(t.Context(), inst.Key(), "one"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []registry.Change{
		{Kind: registry.Put, Instances: []registry.Instance{inst}},
		{Kind: registry.Put, Instances: []registry.Instance{drained}},
		{Kind: registry.Remove, Keys: []registry.Key{inst.Key()}},
	} {
		got := w.next()
		if got.Previous != version || got.Version <= got.Previous {
			t.Errorf("change %d goes from %d to %d, the registry was at %d", i, got.Previous, got.Version, version)
		}
		version = got.Version
		got.Previous, got.Version = 0, 0
		if !reflect.DeepEqual(got, want) {
			t.Errorf("change %d is\n%+v, want\n%+v", i, got, want)
		}
	}
	if got := f.snapshot().Version; got != version {
		t.Errorf("the last message says %d, the registry %d", version, got)
	}
}

func testVersionAfterLoss(t *testing.T, b backend) {
	f := b.open(t)
	inst := instance("echo", "m1", "one")
	f.register(inst, true)
	before := f.snapshot().Version
	for _, key := range []string{"instances", "leases", "load", "version", "beat"} {
		f.do("DEL", f.key(key))
	}
	if got := f.snapshot(); got.Version != 0 || len(got.Instances) != 0 {
		t.Errorf("after the loss the snapshot is %+v", got)
	}
	if got := f.beat(inst).Standings; !slices.Equal(got, []registry.Standing{registry.Unknown}) {
		t.Errorf("after the loss the standing is %v", got)
	}
	f.register(inst, false)
	if got := f.snapshot().Version; got <= before {
		t.Errorf("the version came back from %d to %d", before, got)
	}
}

func testBadPut(t *testing.T, b backend) {
	f := b.open(t, func(c *redis.Config) { c.Codec = &registry.Codec{AllowedNetworks: prefixes("fdaa::/16")} })
	free := b.open(t)
	w := f.watch()
	inst := instance("echo", "m1", "one")
	free.register(inst, true)
	if c := w.next(); c.Kind != registry.Put {
		t.Errorf("the watch said %+v", c)
	}
	inst.Address = "203.0.113.7:50051"
	free.register(inst, false)
	c := w.next()
	if c.Kind != registry.Remove || !slices.Equal(c.Keys, []registry.Key{inst.Key()}) || c.Version <= c.Previous {
		t.Errorf("of a record outside the networks that replaced one inside the watch said %+v", c)
	}
	f.expect()
}

func testLargeRecord(t *testing.T, b backend) {
	f := b.open(t)
	w := f.watch()
	inst := instance("echo", "m1", "one")
	inst.Labels["big"] = strings.Repeat("x", 40_000)
	f.register(inst, true)
	if c := w.next(); c.Kind != registry.Reset {
		t.Errorf("of a record of 40 kB the watch said %+v", c.Kind)
	}
	f.expect("echo/m1")
	inst.Labels["big"] = strings.Repeat("x", registry.DefaultMaxRecordBytes)
	if err := f.registerError(inst, false); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("a record over the limit was taken: %v", err)
	}
}

func testForeignMessage(t *testing.T, b backend) {
	f := b.open(t)
	w := f.watch()
	for _, foreign := range []string{"hello", "{}", `{"p":1,"v":2}`, `{"p":-1,"v":"x"}`, `{"p":1,"v":2,"put":{"a/b":null},"del":["x"]}`} {
		f.do("PUBLISH", f.key("changes"), foreign)
		if c := w.next(); c.Kind != registry.Reset {
			t.Errorf("of %q the watch said %+v", foreign, c)
		}
	}
	w.silent(f)
}

func testConcurrent(t *testing.T, b backend) {
	f := b.open(t)
	w := f.watch()
	var wg sync.WaitGroup
	const workers, rounds = 8, 10
	for i := range workers {
		wg.Go(func() {
			inst := instance("echo", "m"+strconv.Itoa(i), "one")
			for range rounds {
				f.register(inst, false)
				f.beat(inst)
				if err := f.Deregister(t.Context(), inst.Key(), "one"); err != nil {
					t.Error(err)
				}
			}
			f.register(inst, false)
		})
	}
	wg.Wait()
	if got := f.present(); len(got) != workers {
		t.Errorf("left are %v", got)
	}
	// Every change is told of exactly once and in order.
	var version uint64
	for i := range workers * (2*rounds + 1) {
		c := w.next()
		if i > 0 && c.Previous != version {
			t.Fatalf("change %d goes on from %d, the one before went to %d", i, c.Previous, version)
		}
		version = c.Version
	}
	if got := f.snapshot().Version; got != version {
		t.Errorf("the last change went to %d, the registry is at %d", version, got)
	}
}

func testNamespaces(t *testing.T, b backend) {
	f := b.open(t)
	other := b.open(t, func(c *redis.Config) { c.Namespace += ".other" })
	w := f.watch()
	other.register(instance("echo", "m1", "one"), true)
	f.expect()
	other.expect("echo/m1")
	w.silent(f)
}

package redis_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
)

func testRecordComesBack(t *testing.T, b backend) {
	f := b.open(t)
	want := instance("echo", "m1/app-two", "one")
	f.register(want, true)
	snap := f.snapshot()
	if len(snap.Instances) != 1 || !reflect.DeepEqual(snap.Instances[0], want) {
		t.Errorf("got  %+v\nwant %+v", snap.Instances, want)
	}
	if got := f.leaseOf("echo/m1/app-two"); got > lease || got < lease-5*time.Second {
		t.Errorf("%v are left of a lease of %v", got, lease)
	}
}

func testBadRecords(t *testing.T, b backend) {
	networks := func(c *redis.Config) { c.Codec = &registry.Codec{AllowedNetworks: prefixes("fdaa::/16")} }
	f := b.open(t, networks)
	good := instance("echo", "good", "one")
	f.register(good, true)
	f.raw("echo/garbage", "\x00\xff not JSON")
	f.raw("echo/array", "[1,2,3]")
	f.raw("echo/deep", strings.Repeat(`{"a":`, 5000)+"1"+strings.Repeat("}", 5000))
	f.raw("echo/other", encode(t, instance("echo", "somebody", "one")))
	f.raw("nonsense", encode(t, instance("echo", "somebody", "one")))
	f.raw("\xff/\xfe", "{}")
	outside, portless := instance("echo", "outside", "one"), instance("echo", "portless", "one")
	outside.Address = "203.0.113.7:50051"
	f.raw("echo/outside", encode(t, outside))
	raw, _ := json.Marshal(portless)
	f.raw("echo/portless", strings.Replace(string(raw), portless.Address, "10.0.0.1", 1))

	for range 3 {
		snap := f.snapshot()
		if len(snap.Instances) != 1 || snap.Instances[0].ID != "good" || snap.Rejected != 8 {
			t.Fatalf("the snapshot has %+v and rejected %d", snap.Instances, snap.Rejected)
		}
	}
	want := map[string]uint64{"malformed": 18, "network": 3, "address": 3}
	if got := f.Rejected(); !reflect.DeepEqual(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	if n := f.log.count("registry record ignored"); n != 8 {
		t.Errorf("%d log lines for 8 records read 3 times", n)
	}
	// They get leases as any others and go when these run out.
	f.beat(good)
	if got := f.beat(good); got.Standings[0] != registry.Current || got.Pruned != 0 {
		t.Errorf("among bad records the beat gave %+v", got)
	}
	for field := range strings.FieldsSeq("echo/garbage echo/array echo/deep echo/other nonsense \xff/\xfe echo/outside echo/portless") {
		f.do("ZADD", f.key("leases"), f.now().Add(-time.Second).UnixMilli(), field)
	}
	w := f.watch()
	if got := f.beat(good); got.Pruned != 8 {
		t.Errorf("pruned %d of 8", got.Pruned)
	}
	if c := w.next(); c.Kind != registry.Remove {
		t.Errorf("the watch said %+v", c)
	}
	f.expect("echo/good")
}

func testGarbageReplaced(t *testing.T, b backend) {
	f := b.open(t)
	for i, garbage := range []string{"", "null", "7", "\xff", `{"incarnation":5}`, `{"incarnation":""}`, strings.Repeat("x", 2<<20),
		`{"incarnation":"two","x":"` + strings.Repeat("x", 2<<20) + `"}`} {
		id := "m" + strconv.Itoa(i)
		f.raw("echo/"+id, garbage)
		f.register(instance("echo", id, "one"), false)
		f.raw("echo/"+id, garbage)
		if err := f.Deregister(t.Context(), registry.Key{Service: "echo", ID: id}, "one"); err != nil {
			t.Errorf("deregister of %.20q: %v", garbage, err)
		}
	}
	f.expect()
}

func testTenMegabytes(t *testing.T, b backend) {
	f := b.open(t)
	f.register(instance("echo", "m1", "one"), true)
	f.raw("echo/huge", `{"service":"`+strings.Repeat("x", 10<<20)+`"}`)
	limit := registry.DefaultMaxRecordBytes
	f.raw("echo/over", strings.Repeat("x", limit+1))
	f.raw(strings.Repeat("k", limit+1), "{}")
	before := map[string]int{}
	if b.real {
		before = f.calls()
	}
	for range 2 {
		snap := f.snapshot()
		if len(snap.Instances) != 1 || snap.Rejected != 3 {
			t.Errorf("%d instances, %d rejected", len(snap.Instances), snap.Rejected)
		}
	}
	// Nor are they copied inside Redis, where everybody waits for that: they are measured, and only what fits is read.
	if b.real {
		after := f.calls()
		if all, lengths := after["hgetall"]-before["hgetall"], after["hstrlen"]-before["hstrlen"]; all != 0 || lengths < 2*3 {
			t.Errorf("the snapshots called hgetall %d times and hstrlen %d times", all, lengths)
		}
	}
	if got := f.Rejected(); got["too_large"] != 6 {
		t.Errorf("counted %v", got)
	}
	if f.log.count("echo/huge") != 1 || f.log.count("echo/over") != 1 {
		t.Errorf("logged %v", f.log.lines)
	}
	if got := f.beat(instance("echo", "m1", "one"), instance("echo", "huge", "one")); got.Standings[1] != registry.Unknown {
		t.Errorf("the beat gave %+v", got)
	}
}

func testNewerSchema(t *testing.T, b backend) {
	f := b.open(t)
	w := f.watch()
	old := instance("echo", "old", "one")
	f.register(old, true)
	w.next()
	// A later version writes members that this one does not know, by the same scripts.
	newer := instance("echo", "newer", "two")
	newer.Schema = 2
	record, err := json.Marshal(newer)
	if err != nil {
		t.Fatal(err)
	}
	f.raw("echo/newer", strings.TrimSuffix(string(record), "}")+`,"colour":{"deep":[1,2]},"state_detail":"warm"}`)
	if got := f.beat(old, newer).Standings; !slices.Equal(got, []registry.Standing{registry.Current, registry.Current}) {
		t.Errorf("standings %v", got)
	}
	snap := f.snapshot()
	if snap.Rejected != 0 || len(snap.Instances) != 2 {
		t.Fatalf("the snapshot is %+v", snap)
	}
	i := slices.IndexFunc(snap.Instances, func(i registry.Instance) bool { return i.ID == "newer" })
	if !reflect.DeepEqual(snap.Instances[i], newer) {
		t.Errorf("read as %+v", snap.Instances[i])
	}
	if err := f.registerError(instance("echo", "newer", "one"), false); !errors.Is(err, registry.ErrSuperseded) {
		t.Errorf("an old version registered over a newer one: %v", err)
	}
}

func testSignatures(t *testing.T, b backend) {
	key := func(k string) func(*redis.Config) {
		return func(c *redis.Config) { c.Codec = &registry.Codec{SigningKey: []byte(k)} }
	}
	f := b.open(t, key("right"))
	wrong, plain := b.open(t, key("wrong")), b.open(t)
	w := f.watch()
	f.register(instance("echo", "signed", "one"), true)
	if c := w.next(); c.Kind != registry.Put || len(c.Instances) != 1 {
		t.Errorf("the watch said %+v", c)
	}
	wrong.register(instance("echo", "forged", "one"), true)
	if c := w.next(); c.Kind != registry.Remove || len(c.Instances) != 0 {
		t.Errorf("of a forged record the watch said %+v", c)
	}
	plain.register(instance("echo", "plain", "one"), true)
	if c := w.next(); c.Kind != registry.Remove || len(c.Instances) != 0 {
		t.Errorf("of an unsigned record the watch said %+v", c)
	}
	f.expect("echo/signed")
	plain.expect("echo/forged", "echo/plain", "echo/signed") // without a key, signatures are a field that is not known
	if got := f.Rejected()["signature"]; got != 4 {
		t.Errorf("counted %d", got)
	}
}

func testWrongType(t *testing.T, b backend) {
	kinds := map[string]string{"instances": "hash", "leases": "zset", "load": "hash", "version": "string", "beat": "string"}
	for name, wanted := range kinds {
		t.Run(name, func(t *testing.T) {
			f := b.open(t)
			f.do("RPUSH", f.key(name), "something else")
			ops := map[string]func() error{
				"register":   func() error { return f.registerError(instance("echo", "m1", "one"), true) },
				"deregister": func() error { return f.Deregister(t.Context(), registry.Key{Service: "echo", ID: "m1"}, "one") },
				"snapshot":   func() error { _, err := f.Snapshot(t.Context()); return err },
				"loads":      func() error { _, err := f.Loads(t.Context()); return err },
				"beat": func() error {
					_, err := f.Beat(t.Context(), registry.Beat{Lease: lease, Owned: []registry.Owned{
						{Key: registry.Key{Service: "echo", ID: "m1"}, Incarnation: "one"}}})
					return err
				},
			}
			for op, run := range ops {
				err := run()
				if !errors.Is(err, registry.ErrWrongType) {
					t.Errorf("%s: %v", op, err)
					continue
				}
				for _, part := range []string{f.key(name), "list", wanted} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%s: the error does not say %q: %v", op, part, err)
					}
				}
			}
			for other := range kinds {
				if other != name && f.number("EXISTS", f.key(other)) != 0 {
					t.Errorf("%s was written", other)
				}
			}
		})
	}
}

func testBadArguments(t *testing.T, b backend) {
	f := b.open(t)
	bad := instance("echo", "m1", "one")
	bad.Address = "nowhere"
	if err := f.registerError(bad, true); !errors.Is(err, registry.ErrAddress) {
		t.Errorf("a record that readers refuse was written: %v", err)
	}
	if _, err := f.Register(t.Context(), instance("echo", "m1", "one"), 0, true); err == nil {
		t.Error("a lease of 0 was taken")
	}
	if _, err := f.Beat(t.Context(), registry.Beat{}); err == nil {
		t.Error("a beat with a lease of 0 was taken")
	}
	f.expect()
}

func testNoTTL(t *testing.T, b backend) {
	f := b.open(t)
	inst := instance("echo", "m1", "one")
	f.register(inst, true)
	f.beat(inst)
	for _, key := range []string{"instances", "leases", "load", "version", "beat"} {
		if got := f.number("PTTL", f.key(key)); got != -1 {
			t.Errorf("PTTL of %s is %d, want -1 for a key without one", key, got)
		}
	}
}

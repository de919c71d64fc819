package redis_test

import (
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
)

const lease = 15 * time.Second

// backend is one kind of Redis that the suite runs against.
type backend struct {
	config redis.Config
	// do sends a command to where the keys of the namespace lie, past the store.
	do func(args ...any) (any, error)
	// real is false for an imitation, which lacks INFO commandstats and the like.
	real bool
}

// fixture is a store in a namespace of its own.
type fixture struct {
	tries atomic.Int64 // of what retry was given, each maybe a command of its own
	*redis.Store
	t      *testing.T
	b      backend
	config redis.Config
	ns     string
	log    *logBook
}

func (b backend) open(t *testing.T, changes ...func(*redis.Config)) *fixture {
	t.Helper()
	cfg := b.config
	cfg.Namespace = strings.NewReplacer("/", ".", "#", ".").Replace(t.Name())
	const most = 56 // leaves room for what a test appends
	if len(cfg.Namespace) > most {
		cfg.Namespace = cfg.Namespace[len(cfg.Namespace)-most:]
	}
	book := &logBook{}
	cfg.Logger = slog.New(slog.NewTextHandler(book, nil))
	for _, change := range changes {
		change(&cfg)
	}
	s, err := redis.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &fixture{Store: s, t: t, b: b, config: cfg, ns: cfg.Namespace, log: book}
}

func (f *fixture) key(name string) string { return "flyproxy:v1:{" + f.ns + "}:" + name }

func (f *fixture) do(args ...any) any {
	f.t.Helper()
	reply, err := f.b.do(args...)
	if err != nil {
		f.t.Fatalf("%v: %v", args, err)
	}
	return reply
}

func (f *fixture) number(args ...any) int64 {
	f.t.Helper()
	switch v := f.do(args...).(type) {
	case int64:
		return v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			f.t.Fatalf("%v gave %q", args, v)
		}
		return n
	default:
		f.t.Fatalf("%v gave %v", args, v)
		return 0
	}
}

// now is Redis' clock.
func (f *fixture) now() time.Time {
	f.t.Helper()
	parts := f.do("TIME").([]any)
	sec, _ := strconv.ParseInt(parts[0].(string), 10, 64)
	usec, _ := strconv.ParseInt(parts[1].(string), 10, 64)
	return time.Unix(sec, usec*1000)
}

// leaseOf is how long the instance under field has left.
func (f *fixture) leaseOf(field string) time.Duration {
	f.t.Helper()
	score, ok := f.do("ZSCORE", f.key("leases"), field).(string)
	if !ok {
		f.t.Fatalf("%s has no lease", field)
	}
	ms, err := strconv.ParseFloat(score, 64)
	if err != nil {
		f.t.Fatal(err)
	}
	return time.UnixMilli(int64(ms)).Sub(f.now())
}

// alive makes the last beat of the fleet a fresh one, so that silence does not stand in the way of pruning.
func (f *fixture) alive() { f.do("SET", f.key("beat"), f.now().UnixMilli()) }

// expired writes an instance whose lease ran out a second ago.
func (f *fixture) expired(inst registry.Instance) {
	f.t.Helper()
	f.raw(inst.Key().String(), encode(f.t, inst))
	f.do("ZADD", f.key("leases"), f.now().Add(-time.Second).UnixMilli(), inst.Key().String())
}

func (f *fixture) raw(field, record string) {
	f.t.Helper()
	f.do("HSET", f.key("instances"), field, record)
}

func (f *fixture) register(inst registry.Instance, claim bool) (version uint64) {
	f.t.Helper()
	f.retry(func() (err error) {
		version, err = f.Register(f.t.Context(), inst, lease, claim)
		return err
	})
	return version
}

// retry calls do again while Redis takes longer than the short time that some tests give it.
func (f *fixture) retry(do func() error) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		f.tries.Add(1)
		err := do()
		if err == nil {
			return
		}
		if !errors.Is(err, registry.ErrUnavailable) || time.Now().After(deadline) {
			f.t.Fatal(err)
		}
	}
}

// registerError is the error of a registration that should fail.
func (f *fixture) registerError(inst registry.Instance, claim bool) error {
	f.t.Helper()
	_, err := f.Register(f.t.Context(), inst, lease, claim)
	return err
}

func (f *fixture) beat(owned ...registry.Instance) registry.BeatReply {
	f.t.Helper()
	b := registry.Beat{Lease: lease}
	for _, inst := range owned {
		b.Owned = append(b.Owned, registry.Owned{
			Key: inst.Key(), Incarnation: inst.Incarnation, ClaimedAt: inst.ClaimedAt,
		})
	}
	var reply registry.BeatReply
	f.retry(func() (err error) {
		reply, err = f.Beat(f.t.Context(), b)
		return err
	})
	return reply
}

func (f *fixture) snapshot() registry.Snapshot {
	f.t.Helper()
	var snap registry.Snapshot
	f.retry(func() (err error) {
		snap, err = f.Snapshot(f.t.Context())
		return err
	})
	return snap
}

// present are the keys of the instances in a snapshot, sorted.
func (f *fixture) present() []string {
	f.t.Helper()
	out := []string{}
	for _, inst := range f.snapshot().Instances {
		out = append(out, inst.Key().String())
	}
	slices.Sort(out)
	return out
}

func (f *fixture) expect(want ...string) {
	f.t.Helper()
	if got := f.present(); !slices.Equal(got, want) {
		f.t.Errorf("the snapshot has %v, want %v", got, want)
	}
}

func instance(service, id, incarnation string) registry.Instance {
	return registry.Instance{
		Service: service, ID: id, Incarnation: incarnation, Schema: registry.SchemaVersion,
		App: "app", Region: "ams", Address: "[fdaa:0:1::2]:50051", GRPCPort: 50051, IsFly: true, Weight: 100,
		Labels: map[string]string{"tier": "gold"}, GRPCServices: []string{"echo.Echo"},
		State: registry.Serving, StartedAt: time.Unix(1_700_000_000, 0).UTC(),
	}
}

func encode(t *testing.T, inst registry.Instance) string {
	t.Helper()
	record, err := (&registry.Codec{}).Encode(inst)
	if err != nil {
		t.Fatal(err)
	}
	return string(record)
}

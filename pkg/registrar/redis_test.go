package registrar_test

import (
	"context"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registrar"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// On a real redis-server, with a short interval.
const (
	shortInterval = 200 * time.Millisecond
	shortLease    = time.Second
)

type onRedis struct {
	server *redistest.Server
	store  *redis.Store
	gate   *gate // the beater's way to the store
	beater *registrar.Beater
	beats  atomic.Int64 // that ended, well or not
	logs   logs
}

// gate is a store whose commands can be held up, as if this process stood still.
type gate struct {
	registry.Store
	shut  atomic.Bool
	asked atomic.Int64 // registrations that reached the store
}

func (g *gate) pass(ctx context.Context) error {
	for g.shut.Load() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

func (g *gate) Register(ctx context.Context, inst registry.Instance, lease time.Duration, claim bool) (uint64, error) {
	if err := g.pass(ctx); err != nil {
		return 0, err
	}
	defer g.asked.Add(1)
	return g.Store.Register(ctx, inst, lease, claim)
}

func (g *gate) Beat(ctx context.Context, b registry.Beat) (registry.BeatReply, error) {
	if err := g.pass(ctx); err != nil {
		return registry.BeatReply{}, err
	}
	return g.Store.Beat(ctx, b)
}

func startOnRedis(t *testing.T, server *redistest.Server) *onRedis {
	t.Helper()
	r := &onRedis{server: server}
	var err error
	r.store, err = redis.New(redis.Config{Addresses: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	r.gate = &gate{Store: r.store}
	r.beater = startBeater(t, registrar.BeaterConfig{
		Store: r.gate, Interval: shortInterval, Lease: shortLease, Logger: r.logs.logger(),
		OnReply: func(registry.BeatReply, time.Duration) { r.beats.Add(1) },
		OnError: func(error) { r.beats.Add(1) },
	})
	return r
}

// awaitBeats waits for n more beats to end.
func (r *onRedis) awaitBeats(t *testing.T, n int64) {
	t.Helper()
	n += r.beats.Load()
	await(t, "beats", func() bool { return r.beats.Load() >= n })
}

// incarnation is the one under which key stands in the registry, or "".
func (r *onRedis) incarnation(t *testing.T, k registry.Key) string {
	t.Helper()
	s, err := r.store.Snapshot(t.Context())
	if err != nil {
		return ""
	}
	for _, inst := range s.Instances {
		if inst.Key() == k {
			return inst.Incarnation
		}
	}
	return ""
}

func (r *onRedis) awaitThere(t *testing.T, k registry.Key, incarnation string) time.Duration {
	t.Helper()
	return await(t, "record of "+k.String()+" is by "+incarnation+"\n"+r.logs.String(),
		func() bool { return r.incarnation(t, k) == incarnation })
}

var evalshaCalls = regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`)

func (r *onRedis) evalshas(t *testing.T) int {
	t.Helper()
	m := evalshaCalls.FindStringSubmatch(r.server.Text("INFO", "commandstats"))
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func TestAnAppOnRealRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	checkLeaks(t)
	r := startOnRedis(t, server)
	a, _ := startHealthy(t, "127.0.0.1:0")
	app := &running{beater: r.beater}
	app.start(t, a.address, a.address, nil)
	r.awaitThere(t, key("m1"), "new")
	await(t, "standing", func() bool { return app.Status().Registration.Phase == registrar.Registered })

	beats, calls := r.beats.Load(), r.evalshas(t)
	r.awaitBeats(t, 10)
	calls = r.evalshas(t) - calls
	if beats = r.beats.Load() - beats; calls > int(beats)+1 || calls == 0 { // the answer of the last call may be on its way
		t.Errorf("%d script calls for %d beats", calls, beats)
	}

	t.Run("FLUSHALL", func(t *testing.T) {
		server.Must("FLUSHALL")
		t.Logf("back after %v", r.awaitThere(t, key("m1"), "new"))
	})
	t.Run("restart without data", func(t *testing.T) {
		server.Kill()
		await(t, "a failed beat", func() bool { return r.beater.Status().Failing > 0 })
		server.Restart()
		r.awaitThere(t, key("m1"), "new")
	})
	t.Run("paused for longer than a lease", func(t *testing.T) {
		server.Pause()
		<-time.NewTimer(shortLease * 3 / 2).C // that time passes is what is tested
		server.Resume()
		r.awaitThere(t, key("m1"), "new")
		await(t, "a good beat", func() bool { return r.beater.Status().Failing == 0 })
	})
	t.Run("app crashes", func(t *testing.T) {
		a.Stop()
		t.Logf("gone after %v", r.awaitThere(t, key("m1"), ""))
	})
}

func TestTwoProcessesWithOneIDOnRealRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	checkLeaks(t)
	old, fresh := startOnRedis(t, server), startOnRedis(t, server)
	inst := instance("m1")
	inst.Incarnation = "old"
	old.beater.Put(inst)
	old.awaitThere(t, key("m1"), "old")
	inst.Incarnation = "fresh"
	fresh.beater.Put(inst)
	fresh.awaitThere(t, key("m1"), "fresh")
	await(t, "old knows", func() bool { return old.beater.Standing(key("m1")).Phase == registrar.Superseded })
	if err := old.beater.Withdraw(t.Context(), key("m1")); err != nil {
		t.Error(err)
	}
	fresh.awaitBeats(t, int64(2*shortLease/shortInterval))
	fresh.awaitThere(t, key("m1"), "fresh")
	if old.logs.count("level=ERROR") == 0 {
		t.Errorf("log of the old process:\n%s", old.logs.String())
	}
}

// Two processes with one id are alive, the older one superseded, when Redis loses everything. Whoever comes back first, the newer
// one ends up with the record.
func TestFlushAllDoesNotBringASupersededProcessBack(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	checkLeaks(t)
	old, fresh := startOnRedis(t, server), startOnRedis(t, server)
	inst := instance("m1")
	inst.Incarnation = "old"
	old.beater.Put(inst)
	old.awaitThere(t, key("m1"), "old")
	inst.Incarnation = "fresh"
	fresh.beater.Put(inst)
	phase := func(r *onRedis, p registrar.Phase) {
		t.Helper()
		await(t, string(p)+"\n"+r.logs.String(), func() bool { return r.beater.Standing(key("m1")).Phase == p })
	}
	phase(old, registrar.Superseded)
	phase(fresh, registrar.Registered)
	for range 3 {
		fresh.gate.shut.Store(true)
		fresh.awaitBeats(t, 1) // none is under way any more
		server.Must("FLUSHALL")
		t.Logf("the old one is back after %v", old.awaitThere(t, key("m1"), "old"))
		phase(old, registrar.Registered)
		fresh.gate.shut.Store(false)
		t.Logf("the newer one is back after %v", fresh.awaitThere(t, key("m1"), "fresh"))
		phase(old, registrar.Superseded)
		phase(fresh, registrar.Registered)

		old.gate.shut.Store(true)
		old.awaitBeats(t, 1)
		server.Must("FLUSHALL")
		fresh.awaitThere(t, key("m1"), "fresh")
		asked := old.gate.asked.Load()
		old.gate.shut.Store(false)
		await(t, "the old one asks", func() bool { return old.gate.asked.Load() > asked })
		phase(old, registrar.Superseded)
		phase(fresh, registrar.Registered)
		fresh.awaitThere(t, key("m1"), "fresh")
	}
	if n := fresh.logs.count("level=ERROR"); n != 0 {
		t.Errorf("log of the newer process:\n%s", fresh.logs.String())
	}
}

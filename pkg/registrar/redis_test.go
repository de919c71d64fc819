package registrar_test

import (
	"regexp"
	"strconv"
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
	beater *registrar.Beater
	logs   logs
}

func startOnRedis(t *testing.T, server *redistest.Server) *onRedis {
	t.Helper()
	r := &onRedis{server: server}
	var err error
	r.store, err = redis.New(redis.Config{Addresses: []string{server.Addr()}, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	r.beater = startBeater(t, registrar.BeaterConfig{Store: r.store, Interval: shortInterval, Lease: shortLease, Logger: r.logs.logger()})
	return r
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

func (r *onRedis) awaitThere(t *testing.T, k registry.Key, incarnation string, within time.Duration) time.Duration {
	t.Helper()
	return await(t, "record of "+k.String()+" is by "+incarnation+"\n"+r.logs.String(), within,
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
	r.awaitThere(t, key("m1"), "new", 2*time.Second)
	await(t, "standing", time.Second, func() bool { return app.Status().Registration.Phase == registrar.Registered })

	before := r.evalshas(t)
	time.Sleep(10 * shortInterval)
	if n := r.evalshas(t) - before; n < 8 || n > 12 {
		t.Errorf("%d script calls in 10 intervals", n)
	}

	t.Run("FLUSHALL", func(t *testing.T) {
		server.Must("FLUSHALL")
		r.awaitThere(t, key("m1"), "new", shortInterval*11/10+200*time.Millisecond)
	})
	t.Run("restart without data", func(t *testing.T) {
		server.Kill()
		await(t, "a failed beat", 2*time.Second, func() bool { return r.beater.Status().Failing > 0 })
		server.Restart()
		r.awaitThere(t, key("m1"), "new", 3*time.Second)
	})
	t.Run("paused for longer than a lease", func(t *testing.T) {
		server.Pause()
		time.Sleep(shortLease * 3 / 2)
		server.Resume()
		r.awaitThere(t, key("m1"), "new", 2*time.Second)
		await(t, "a good beat", 2*time.Second, func() bool { return r.beater.Status().Failing == 0 })
	})
	t.Run("app crashes", func(t *testing.T) {
		a.Stop()
		if d := r.awaitThere(t, key("m1"), "", 2*time.Second); d > 500*time.Millisecond {
			t.Errorf("gone after %v", d)
		}
	})
}

func TestTwoProcessesWithOneIDOnRealRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	checkLeaks(t)
	old, fresh := startOnRedis(t, server), startOnRedis(t, server)
	inst := instance("m1")
	inst.Incarnation = "old"
	old.beater.Put(inst)
	old.awaitThere(t, key("m1"), "old", 2*time.Second)
	inst.Incarnation = "fresh"
	fresh.beater.Put(inst)
	fresh.awaitThere(t, key("m1"), "fresh", 2*time.Second)
	await(t, "old knows", 2*time.Second, func() bool { return old.beater.Standing(key("m1")).Phase == registrar.Superseded })
	if err := old.beater.Withdraw(t.Context(), key("m1")); err != nil {
		t.Error(err)
	}
	time.Sleep(2 * shortLease)
	if got := fresh.incarnation(t, key("m1")); got != "fresh" {
		t.Errorf("the record is by %q", got)
	}
	if n := old.logs.count("level=ERROR"); n != 1 {
		t.Errorf("log of the old process:\n%s", old.logs.String())
	}
}

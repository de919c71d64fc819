package redis_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// shortLease is for tests that wait for leases to run out. A beat every 100 ms keeps well within it.
const shortLease = 2 * time.Second

// patience is how long a test waits for what must come. It is long because machines that run tests are often busy, so that no test
// fails for a slow one.
const patience = 30 * time.Second

func quick(cfg *redis.Config) {
	cfg.Timeout = 500 * time.Millisecond
	cfg.DialTimeout = 500 * time.Millisecond
}

func mustSay(t *testing.T, err, is error, parts ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Errorf("error is %v, want %v", err, is)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
}

// beater beats in the background as sidecars do.
type beater struct {
	f    *fixture
	mu   sync.Mutex // guards the fields below
	ok   int
	lost int
}

func keepAlive(f *fixture, owned ...registry.Instance) *beater {
	b := &beater{f: f}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go b.run(ctx, ended, owned)
	f.t.Cleanup(func() { stop(); <-ended })
	return b
}

func (b *beater) run(ctx context.Context, ended chan struct{}, owned []registry.Instance) {
	defer close(ended)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	beat := registry.Beat{Lease: shortLease}
	for _, inst := range owned {
		beat.Owned = append(beat.Owned, registry.Owned{Key: inst.Key(), Incarnation: inst.Incarnation, ClaimedAt: inst.ClaimedAt})
	}
	for {
		reply, err := b.f.Beat(ctx, beat)
		b.mu.Lock()
		if err == nil {
			b.ok++
			b.lost += reply.Pruned
		}
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// works waits until beats succeed again.
func (b *beater) works() {
	b.f.t.Helper()
	b.mu.Lock()
	start := b.ok
	b.mu.Unlock()
	poll(b.f.t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.ok >= start+2
	}, "no beat succeeds")
}

func (b *beater) pruned() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

func poll(t *testing.T, cond func() bool, what string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// within logs how long something took, and fails only for what no machine is slow enough for.
func within(t *testing.T, what string, began time.Time) {
	t.Helper()
	took := time.Since(began)
	t.Logf("%s took %v", what, took)
	if took > patience {
		t.Errorf("%s took more than %v", what, patience)
	}
}

// reset reads changes until a Reset.
func (w *watcher) reset() {
	w.t.Helper()
	for w.next().Kind != registry.Reset {
	}
}

// works shows that changes come in: it reads them until that of an instance which it registers.
func (w *watcher) works(f *fixture) {
	w.t.Helper()
	marker := instance("marker", "works", time.Now().String())
	f.register(marker, true)
	for {
		c := w.next()
		if c.Kind == registry.Put && len(c.Instances) == 1 && c.Instances[0].Incarnation == marker.Incarnation {
			return
		}
	}
}

func TestRestartThatLosesEverything(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{})
	f := b.open(t, quick)
	inst := instance("echo", "m1", "one")
	f.register(inst, true)
	before := f.snapshot().Version
	keeper, w := keepAlive(f), f.watch()
	s.Restart()
	w.reset()
	keeper.works()
	if got := f.beat(inst); got.Standings[0] != registry.Unknown {
		t.Errorf("the beat gave %+v", got)
	}
	f.register(inst, false)
	if got := f.snapshot().Version; got <= before {
		t.Errorf("the version went from %d to %d", before, got)
	}
	w.works(f)
	if f.log.count("registry watch lost") == 0 || f.log.count("registry watch is back") == 0 {
		t.Errorf("logged %v", f.log.lines)
	}
}

func TestRestartThatKeepsDataAfterLeasesRanOut(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{Persist: true})
	f := b.open(t, quick)
	mine, other := instance("echo", "m1", "one"), instance("echo", "m2", "one")
	f.register(mine, true)
	f.register(other, true)
	f.do("ZADD", f.key("leases"), f.now().Add(-time.Hour).UnixMilli(), "echo/m2")
	f.do("SET", f.key("beat"), f.now().Add(-time.Hour).UnixMilli())
	w := f.watch()
	s.Kill()
	began := time.Now()
	_, err := f.Snapshot(t.Context())
	mustSay(t, err, registry.ErrUnavailable)
	within(t, "the failure", began)
	s.Restart()
	w.reset()
	if got := f.beat(mine); !got.Renewed || got.Pruned != 0 || got.Standings[0] != registry.Current {
		t.Errorf("the beat gave %+v", got)
	}
	f.expect("echo/m1", "echo/m2")
}

// TestPausedForLongerThanALease also shows that a watch on a connection that stands, but is dead, is given up.
func TestPausedForLongerThanALease(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{})
	f := b.open(t, quick)
	mine, other := instance("echo", "m1", "one"), instance("echo", "m2", "one")
	for _, inst := range []registry.Instance{mine, other} {
		if _, err := f.Register(t.Context(), inst, shortLease, true); err != nil {
			t.Fatal(err)
		}
	}
	keeper, w := keepAlive(f, mine, other), f.watch()
	keeper.works()
	s.Pause()
	began := time.Now()
	poll(t, func() bool { return f.log.count("registry watch lost") > 0 }, "the watch does not notice")
	within(t, "the watch's notice while beats failed", began)
	<-time.NewTimer(shortLease).C // the lease must run out, which is the clock's to do
	s.Resume()
	w.reset()
	keeper.works()
	f.expect("echo/m1", "echo/m2")
	if got := keeper.pruned(); got != 0 {
		t.Errorf("%d were pruned after the pause", got)
	}
	w.works(f)
}

// TestWatchAloneNoticesAPause is about a store that only watches: no beat tells it that something is wrong.
func TestWatchAloneNoticesAPause(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{})
	f := b.open(t, quick)
	w := f.watch()
	s.Pause()
	poll(t, func() bool { return f.log.count("registry watch lost") > 0 }, "the watch does not notice")
	s.Resume()
	w.reset()
	w.works(f)
}

// TestIdleWatchIsLeftAlone: while beats show that Redis answers, a watch costs no command.
func TestIdleWatchIsLeftAlone(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{})
	f := b.open(t, func(cfg *redis.Config) { cfg.Timeout = patience }) // a beat that failed would be a reason to ask
	f.register(instance("echo", "m1", "one"), true)
	f.beat()
	keeper := keepAlive(f)
	w := f.watch()
	w.works(f)
	for range 16 { // 2 beats each, one every 100 ms: three ticks of the probe
		keeper.works()
	}
	for line := range strings.Lines(s.Text("CLIENT", "LIST", "TYPE", "pubsub")) {
		if strings.Contains(line, "cmd=ping") {
			t.Errorf("the watch asked without a reason: %s", line)
		}
	}
	if len(w.changes) != 0 {
		t.Errorf("the watch said %+v", <-w.changes)
	}
}

// TestSubscriptionCutOffAlone breaks the subscription alone, as a middlebox may, so that only the version tells.
func TestSubscriptionCutOffAlone(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{})
	proxy := newProxy(t, s.Addr())
	through := b.open(t, quick, func(cfg *redis.Config) { cfg.Addresses = []string{proxy.addr()} })
	direct := b.open(t, func(cfg *redis.Config) { cfg.Namespace = through.ns })
	w := through.watch()
	proxy.freeze() // connections that stand now go silent, new ones work
	keepAlive(through)
	direct.register(instance("echo", "m1", "one"), true)
	w.reset()
	w.works(through)
}

// TestSubscriptionStaysWithAFormerPrimary: everything else goes to the new primary, the old one lives on somewhere and answers.
func TestSubscriptionStaysWithAFormerPrimary(t *testing.T) {
	t.Parallel()
	former, _ := onServer(t, redistest.Config{})
	s, b := onServer(t, redistest.Config{})
	proxy := newProxy(t, former.Addr())
	through := b.open(t, quick, func(cfg *redis.Config) { cfg.Addresses = []string{proxy.addr()} })
	w := through.watch()
	proxy.retarget(s.Addr())
	keepAlive(through)
	i := 0
	poll(t, func() bool {
		through.register(instance("echo", "m"+strconv.Itoa(i%10), strconv.Itoa(i)), true)
		i++
		return len(w.changes) > 0
	}, "the watch stays where no messages come")
	w.reset()
	w.works(through)
}

func TestClusterFailover(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, redistest.ClusterConfig{Replicas: 1})
	b := backend{config: redis.Config{Addresses: c.Addrs(), Mode: redis.Cluster}}
	f := b.open(t, quick)
	keeper, w := keepAlive(f), f.watch()
	f.register(instance("echo", "m1", "one"), true)
	before := w.next().Version
	owner := c.Owner(f.key("instances"))
	owner.Must("WAIT", 1, 5000)
	owner.Pause()
	if c.Owner(f.key("instances")) == owner {
		t.Fatal("the paused node still serves")
	}
	keeper.works()
	f.register(instance("echo", "m2", "one"), true)
	w.reset()
	f.expect("echo/m1", "echo/m2")
	if got := f.snapshot().Version; got <= before {
		t.Errorf("the version went from %d to %d", before, got)
	}
	w.works(f)
}

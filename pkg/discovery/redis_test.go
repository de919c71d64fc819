package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/discovery"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

const (
	// redisLease is sixteen beats long, so that a machine which is busy ends nobody's.
	redisLease    = 4 * time.Second
	redisInterval = redisLease / 16
	// forGood is the lease of what is registered once and never beats.
	forGood = time.Hour
	// patience bounds every wait. How long things take is logged, not judged: that depends on the machine.
	patience = 30 * time.Second
)

// sidecar is as much of one as discovery needs: it keeps instances registered and has its view told of each beat.
type sidecar struct {
	t     *testing.T
	store registry.Store
	d     *discovery.Discovery
	own   []registry.Instance
	// least is how many entries a view must have at any time.
	least atomic.Int64
}

// startSidecar runs one until the test ends.
func startSidecar(t *testing.T, server *redistest.Server, own ...registry.Instance) *sidecar {
	t.Helper()
	s := startView(t, server, redisLease)
	s.own = own
	for _, i := range own {
		s.register(i, redisLease)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var joined sync.WaitGroup
	joined.Go(func() { s.beat(ctx) })
	t.Cleanup(func() {
		cancel()
		joined.Wait()
	})
	return s
}

// startSilent runs a sidecar that has no instances and never beats: it prunes nobody, and all that it knows it was told or has read.
func startSilent(t *testing.T, server *redistest.Server) *sidecar {
	t.Helper()
	return startView(t, server, forGood)
}

func startView(t *testing.T, server *redistest.Server, lease time.Duration) *sidecar {
	t.Helper()
	store, err := redis.New(redis.Config{
		Addresses:   []string{server.Addr()},
		Mode:        redis.Standalone,
		Namespace:   "test",
		DialTimeout: time.Second,
		Timeout:     500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &sidecar{t: t, store: store, d: discovery.New(discovery.Config{Store: store, Lease: lease})}
	s.d.OnChange(func(v *registry.View) {
		if n, least := len(v.Entries), s.least.Load(); int64(n) < least {
			t.Errorf("a view has %d entries, want %d at any time", n, least)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var joined sync.WaitGroup
	joined.Go(func() {
		if err := s.d.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		joined.Wait()
		if err := store.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// register claims i, and tries again while the registry does not answer in time.
func (s *sidecar) register(i registry.Instance, lease time.Duration) {
	for deadline := time.Now().Add(patience); ; {
		_, err := s.store.Register(s.t.Context(), i, lease, true)
		if err == nil {
			return
		}
		if !errors.Is(err, registry.ErrUnavailable) || time.Now().After(deadline) {
			s.t.Errorf("register %s: %v", i.ID, err)
			return
		}
	}
}

// beat does what the registrar does: what the registry does not know is registered again.
func (s *sidecar) beat(ctx context.Context) {
	ticker := time.NewTicker(redisInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		b := registry.Beat{Lease: redisLease}
		for _, i := range s.own {
			b.Owned = append(b.Owned, registry.Owned{Key: i.Key(), Incarnation: i.Incarnation})
		}
		reply, err := s.store.Beat(ctx, b)
		if err != nil {
			continue
		}
		s.d.Observe(reply)
		for n, standing := range reply.Standings {
			if standing == registry.Unknown {
				// If it fails, the next beat says so again.
				_, err := s.store.Register(ctx, s.own[n], redisLease, false)
				if err != nil && ctx.Err() == nil && !errors.Is(err, registry.ErrUnavailable) {
					s.t.Errorf("register %s: %v", s.own[n].ID, err)
				}
			}
		}
	}
}

// await polls until the view is as wanted, and current by the status, and tells how long it took.
func (s *sidecar) await(what string, is func(*registry.View) bool) time.Duration {
	s.t.Helper()
	began := time.Now()
	for {
		v, status := s.d.View(), s.d.Status()
		if is(v) && status.State == discovery.Current && status.Version == v.Version && status.Instances == len(v.Entries) {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			s.t.Fatalf("not within %v: %s; %d entries, status %+v", patience, what, len(v.Entries), status)
		}
		time.Sleep(time.Millisecond)
	}
}

// serving tells whether a view has exactly n instances, none of them held.
func serving(n int) func(*registry.View) bool {
	return func(v *registry.View) bool {
		for _, e := range v.Entries {
			if e.Held {
				return false
			}
		}
		return len(v.Entries) == n
	}
}

func TestRedisChangesAreSeenAtOnce(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	// Nobody beats, so what is seen without a snapshot was told by a message.
	a, b := startSilent(t, server), startSilent(t, server)
	a.register(instance("s", "a"), forGood)
	b.await("a is seen", serving(1))
	a.await("a sees itself", serving(1))

	before := a.d.Status()
	i := instance("s", "b")
	b.register(i, forGood)
	came := a.await("b is seen", serving(2))
	if err := b.store.Deregister(t.Context(), i.Key(), i.Incarnation); err != nil {
		t.Fatal(err)
	}
	went := a.await("b is gone", serving(1))
	if s := a.d.Status(); s.Gaps != before.Gaps || s.Snapshots != before.Snapshots || s.Changes != before.Changes+2 {
		t.Errorf("status is %+v, was %+v", s, before)
	}
	t.Logf("seen %v after its registration, gone %v after its end", came, went)
}

func TestRedisConnectionsThatAreCutResume(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	a := startSidecar(t, server, instance("s", "a"))
	b := startSidecar(t, server)
	b.await("a is seen", serving(1))
	for n := range 5 {
		server.Must("CLIENT", "KILL", "TYPE", "pubsub")
		a.register(instance("s", fmt.Sprint(n)), forGood)
	}
	t.Logf("all are seen after %v", b.await("all are seen", serving(6)))
}

func TestRedisThatIsFlushedEmptiesNoView(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	a := startSidecar(t, server, instance("s", "a"), instance("s", "b"), instance("s", "c"))
	b := startSidecar(t, server)
	for _, s := range []*sidecar{a, b} {
		s.await("all are seen", serving(3))
		s.least.Store(3)
	}
	server.Must("FLUSHALL")
	before := b.d.Status().Snapshots
	took := b.await("all are registered again", func(v *registry.View) bool {
		return serving(3)(v) && b.d.Status().Snapshots > before
	})
	t.Logf("all are registered again after %v; beats are %v apart", took, redisInterval)
}

func TestRedisThatRestartsEmptyOrHangsEmptiesNoView(t *testing.T) {
	for name, trouble := range map[string]func(*redistest.Server){
		"restart": func(s *redistest.Server) { s.Restart() },
		"hang": func(s *redistest.Server) {
			s.Pause()
			pause(redisLease + time.Second) // longer than a lease: that is what is tested
			s.Resume()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, redistest.Config{})
			a := startSidecar(t, server, instance("s", "a"), instance("s", "b"))
			b := startSidecar(t, server)
			for _, s := range []*sidecar{a, b} {
				s.await("all are seen", serving(2))
				s.least.Store(2)
			}
			trouble(server)
			before := b.d.Status().ConfirmedAt
			took := b.await("the view is confirmed again", func(v *registry.View) bool {
				return serving(2)(v) && b.d.Status().ConfirmedAt.After(before)
			})
			t.Logf("the view is confirmed again after %v", took)
			// Nobody goes later either: leases and holds have to run out for that to show.
			pause(redisLease + redisInterval)
			for _, s := range []*sidecar{a, b} {
				s.await("all are still there", serving(2))
			}
		})
	}
}

// pause lets time pass where that is what a test is about.
func pause(d time.Duration) { <-time.NewTimer(d).C }

func TestRedisStormCostsFewViews(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	// Nobody beats: a beat that is answered long before its message arrives would rightly cost a snapshot.
	a, b := startSilent(t, server), startSilent(t, server)
	b.await("first view", serving(0))

	before, began := b.d.Status(), time.Now()
	var registering sync.WaitGroup
	for n := range 20 {
		registering.Go(func() {
			for m := range 50 {
				a.register(instance("s", fmt.Sprintf("%02d-%02d", n, m)), forGood)
			}
		})
	}
	registering.Wait()
	b.await("all 1,000 are seen", serving(1000))
	took, s := time.Since(began), b.d.Status()
	// Views are no less than DefaultCoalesce apart, however slow the machine is.
	most := uint64(took/discovery.DefaultCoalesce) + 2
	if built := s.Views - before.Views; built > most || s.Snapshots != before.Snapshots || s.Changes-before.Changes != 1000 {
		t.Errorf("%d views in %v, at most %d wanted; status %+v", built, took, most, s)
	}
	t.Logf("1,000 registrations in %v: %d views", took, s.Views-before.Views)
}

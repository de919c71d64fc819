package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/discovery"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

const (
	redisLease    = 2 * time.Second
	redisInterval = 500 * time.Millisecond
)

// sidecar is as much of one as discovery needs: it keeps instances registered and has its view told of each beat.
type sidecar struct {
	t     *testing.T
	store registry.Store
	d     *discovery.Discovery
	own   []registry.Instance
}

// startSidecar runs one until the test ends.
func startSidecar(t *testing.T, server *redistest.Server, own ...registry.Instance) *sidecar {
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
	s := &sidecar{t: t, store: store, d: discovery.New(discovery.Config{Store: store, Lease: redisLease}), own: own}
	for _, i := range own {
		s.register(t.Context(), i, true)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var joined sync.WaitGroup
	joined.Go(func() {
		if err := s.d.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	joined.Go(func() { s.beat(ctx) })
	t.Cleanup(func() {
		cancel()
		joined.Wait()
		if err := store.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

func (s *sidecar) register(ctx context.Context, i registry.Instance, claim bool) {
	if err := s.store.Register(ctx, i, redisLease, claim); err != nil && ctx.Err() == nil &&
		!errors.Is(err, registry.ErrUnavailable) {
		s.t.Errorf("register %s: %v", i.ID, err)
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
				s.register(ctx, s.own[n], false)
			}
		}
	}
}

// await polls until the view is as wanted, and fails the test when that takes longer than within.
func (s *sidecar) await(within time.Duration, what string, is func(*registry.View) bool) {
	s.t.Helper()
	deadline := time.Now().Add(within)
	for !is(s.d.View()) {
		if time.Now().After(deadline) {
			v := s.d.View()
			s.t.Fatalf("not within %v: %s; %d entries, status %+v", within, what, len(v.Entries), s.d.Status())
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

func known(n int) func(*registry.View) bool {
	return func(v *registry.View) bool { return len(v.Entries) == n }
}

func TestRedisChangesAreSeenAtOnce(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	a := startSidecar(t, server, instance("s", "a"))
	b := startSidecar(t, server)
	b.await(5*time.Second, "a is seen", serving(1))
	a.await(5*time.Second, "a sees itself", serving(1))

	// By messages alone: no snapshot is read for it.
	before := a.d.Status()
	i := instance("s", "b")
	b.register(t.Context(), i, true)
	a.await(time.Second, "b is seen", serving(2))
	if err := b.store.Deregister(t.Context(), i.Key(), i.Incarnation); err != nil {
		t.Fatal(err)
	}
	a.await(time.Second, "b is gone", serving(1))
	if s := a.d.Status(); s.Gaps != before.Gaps || s.Snapshots != before.Snapshots || s.Changes != before.Changes+2 {
		t.Errorf("status is %+v, was %+v", s, before)
	}
}

func TestRedisConnectionsThatAreCutResume(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	a := startSidecar(t, server, instance("s", "a"))
	b := startSidecar(t, server)
	b.await(5*time.Second, "a is seen", serving(1))
	for n := range 5 {
		server.Must("CLIENT", "KILL", "TYPE", "pubsub")
		a.register(t.Context(), instance("s", fmt.Sprint(n)), true)
	}
	b.await(3*time.Second, "all are seen", serving(6))
}

func TestRedisThatIsFlushedEmptiesNoView(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	own := []registry.Instance{instance("s", "a"), instance("s", "b"), instance("s", "c")}
	a := startSidecar(t, server, own...)
	b := startSidecar(t, server)
	b.await(5*time.Second, "all are seen", serving(3))
	a.await(5*time.Second, "all are seen", serving(3))
	server.Must("FLUSHALL")
	before := b.d.Status().Snapshots
	deadline := time.Now().Add(2*redisInterval + 2*time.Second)
	for b.d.Status().Snapshots == before || !serving(3)(b.d.View()) {
		for _, s := range []*sidecar{a, b} {
			if n := len(s.d.View().Entries); n != 3 {
				t.Fatalf("a view has %d entries after FLUSHALL", n)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not registered again: %v, status %+v", ids(b.d.View()), b.d.Status())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestRedisThatRestartsEmptyOrHangsEmptiesNoView(t *testing.T) {
	for name, trouble := range map[string]func(*redistest.Server){
		"restart": func(s *redistest.Server) { s.Restart() },
		"hang": func(s *redistest.Server) {
			s.Pause()
			time.Sleep(redisLease + time.Second)
			s.Resume()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, redistest.Config{})
			a := startSidecar(t, server, instance("s", "a"), instance("s", "b"))
			b := startSidecar(t, server)
			b.await(5*time.Second, "all are seen", serving(2))
			a.await(5*time.Second, "all are seen", serving(2))

			stop := make(chan struct{})
			var watching sync.WaitGroup
			watching.Go(func() {
				for {
					if !known(2)(a.d.View()) || !known(2)(b.d.View()) {
						t.Error("a view lost an instance")
						return
					}
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
				}
			})
			trouble(server)
			before := b.d.Status().ConfirmedAt
			b.await(15*time.Second, "the view is confirmed again", func(v *registry.View) bool {
				s := b.d.Status()
				return serving(2)(v) && s.State == discovery.Current && s.ConfirmedAt.After(before)
			})
			// Nobody goes later either, when leases and holds have run out.
			time.Sleep(redisLease + redisInterval)
			close(stop)
			watching.Wait()
		})
	}
}

func TestRedisStormCostsFewViews(t *testing.T) {
	server := redistest.Start(t, redistest.Config{})
	a := startSidecar(t, server)
	b := startSidecar(t, server)
	b.await(5*time.Second, "first view", func(v *registry.View) bool { return v.Source == registry.FromRegistry })
	a.await(5*time.Second, "first view", func(v *registry.View) bool { return v.Source == registry.FromRegistry })

	before, began := b.d.Status(), time.Now()
	var registering sync.WaitGroup
	for n := range 20 {
		registering.Go(func() {
			for m := range 50 {
				a.register(t.Context(), instance("s", fmt.Sprintf("%02d-%02d", n, m)), true)
			}
		})
	}
	registering.Wait()
	b.await(time.Second, "all 1,000 are seen", serving(1000))
	took, s := time.Since(began), b.d.Status()
	most := uint64(took/discovery.DefaultCoalesce) + 2
	if built := s.Views - before.Views; built > most || s.Snapshots != before.Snapshots || s.Changes-before.Changes != 1000 {
		t.Errorf("%d views in %v, at most %d wanted; status %+v", built, took, most, s)
	}
	t.Logf("1,000 registrations in %v: %d views", took, s.Views-before.Views)
}

package redis_test

import (
	"context"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func onMiniredis(t *testing.T) (*miniredis.Miniredis, backend) {
	t.Helper()
	m := miniredis.RunT(t)
	client := goredis.NewClient(&goredis.Options{Addr: m.Addr(), Protocol: 2})
	t.Cleanup(func() { _ = client.Close() })
	return m, backend{
		config: redis.Config{Addresses: []string{m.Addr()}},
		do: func(args ...any) (any, error) {
			reply, err := client.Do(context.Background(), args...).Result()
			if err == goredis.Nil {
				return nil, nil
			}
			return reply, err
		},
	}
}

func onServer(t *testing.T, cfg redistest.Config) (*redistest.Server, backend) {
	t.Helper()
	s := redistest.Start(t, cfg)
	return s, backend{
		config: redis.Config{Addresses: []string{s.Addr()}, Password: cfg.Password},
		do:     func(args ...any) (any, error) { return s.Do(context.Background(), args...) },
		real:   true,
	}
}

func TestOnMiniredis(t *testing.T) {
	t.Parallel()
	_, b := onMiniredis(t)
	runStoreSuite(t, b)
}

func TestOnServer(t *testing.T) {
	t.Parallel()
	_, b := onServer(t, redistest.Config{})
	runStoreSuite(t, b)
}

func TestOnServerWithPasswordAndTLS(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{Password: "secret", TLS: true})
	b.config.TLS = &redis.TLS{CAFile: s.CAFile(), ServerName: redistest.ServerName}
	runStoreSuite(t, b)
}

// TestOnMiniredisClockSteps moves the clock itself, which a real server does not allow.
func TestOnMiniredisClockSteps(t *testing.T) {
	m, b := onMiniredis(t)
	f := b.open(t)
	inst, idle := instance("echo", "m1", "one"), instance("echo", "m2", "one")
	start := time.Now()
	m.SetTime(start)
	f.register(inst, true)
	f.register(idle, true)
	f.beat(inst)
	for _, step := range []time.Duration{time.Hour, -time.Hour, 48 * time.Hour, -30 * 24 * time.Hour, lease} {
		start = start.Add(step)
		m.SetTime(start)
		if got := f.beat(inst); got.Pruned != 0 || !got.Renewed || got.Standings[0] != registry.Current {
			t.Errorf("after a step of %v the beat gave %+v", step, got)
		}
		version := f.snapshot().Version
		changed := inst
		changed.AppVersion = step.String()
		f.register(changed, false)
		if got := f.snapshot().Version; got <= version {
			t.Errorf("after a step of %v the version went from %d to %d", step, version, got)
		}
	}
	// From here the clock goes as clocks do, and only who does not beat goes.
	for i := range 4 {
		start = start.Add(5 * time.Second)
		m.SetTime(start)
		got := f.beat(inst)
		if want := i == 2; (got.Pruned == 1) != want || got.Renewed {
			t.Errorf("%d s later the beat gave %+v", 5*(i+1), got)
		}
	}
	f.expect("echo/m1")
}

func TestOnCluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, redistest.ClusterConfig{})
	b := backend{config: redis.Config{Addresses: c.Addrs(), Mode: redis.Cluster}, real: true}
	client := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: c.Addrs(), Protocol: 2})
	t.Cleanup(func() { _ = client.Close() })
	ctx := context.Background()
	b.do = func(args ...any) (any, error) {
		switch args[0] {
		case "FLUSHALL", "SCRIPT": // of all masters
			return nil, client.ForEachMaster(ctx, func(ctx context.Context, one *goredis.Client) error {
				return one.Do(ctx, args...).Err()
			})
		case "INFO": // of all masters, one after the other: only the slot's own runs scripts
			var all string
			for _, node := range c.Nodes {
				all += node.Text(args...)
			}
			return all, nil
		}
		reply, err := client.Do(ctx, args...).Result()
		if err == goredis.Nil {
			return nil, nil
		}
		return reply, err
	}
	runStoreSuite(t, b)

	t.Run("AllKeysInOneSlot", func(t *testing.T) {
		f := b.open(t)
		slot := f.number("CLUSTER", "KEYSLOT", f.key("instances"))
		for _, key := range []string{"leases", "load", "version", "beat", "changes"} {
			if got := f.number("CLUSTER", "KEYSLOT", f.key(key)); got != slot {
				t.Errorf("%s is in slot %d, instances in %d", key, got, slot)
			}
		}
	})
	t.Run("AnyNodeWillDoAndEveryNodeServesSomeNamespace", func(t *testing.T) {
		served := map[*redistest.Server]bool{}
		for i := range 30 {
			f := b.open(t, func(cfg *redis.Config) {
				cfg.Namespace = "spread" + strconv.Itoa(i)
				cfg.Addresses = []string{c.Nodes[i%3].Addr()}
			})
			w := f.watch()
			f.register(instance("echo", "m1", "one"), true)
			if change := w.next(); change.Kind != registry.Put {
				t.Errorf("the watch said %+v", change)
			}
			served[c.Owner(f.key("instances"))] = true
		}
		if len(served) != 3 {
			t.Errorf("%d of 3 nodes serve a namespace", len(served))
		}
	})
	t.Run("StandaloneClientIsToldItIsACluster", func(t *testing.T) {
		owner := c.Owner(b.open(t).key("instances"))
		f := b.open(t, func(cfg *redis.Config) {
			cfg.Mode = redis.Standalone
			for _, node := range c.Nodes {
				if node != owner {
					cfg.Addresses = []string{node.Addr()}
				}
			}
		})
		_, err := f.Snapshot(t.Context())
		mustSay(t, err, registry.ErrUnavailable, "mode to cluster")
	})
	t.Run("NodeGoneWithoutReplica", func(t *testing.T) {
		f := b.open(t, func(cfg *redis.Config) { cfg.Timeout = 500 * time.Millisecond })
		f.register(instance("echo", "m1", "one"), true)
		c.Owner(f.key("instances")).Kill()
		began := time.Now()
		_, err := f.Snapshot(t.Context())
		mustSay(t, err, registry.ErrUnavailable)
		within(t, "the failure", began)
	})
}

func TestOnSentinelWithAFailoverInTheMiddle(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t, redistest.Config{Password: "secret"})
	primary := s.Primary
	b := backend{
		config: redis.Config{Addresses: s.Addrs(), Mode: redis.Sentinel, SentinelMaster: redistest.MasterName, Password: "secret"},
		do:     func(args ...any) (any, error) { return primary.Do(context.Background(), args...) },
		real:   true,
	}
	t.Run("Before", func(t *testing.T) { runStoreSuite(t, b) })

	t.Run("ReplicaIsNotReadFrom", func(t *testing.T) {
		f := b.open(t, func(cfg *redis.Config) {
			*cfg = redis.Config{Addresses: []string{s.Replica.Addr()}, Password: "secret", Timeout: 500 * time.Millisecond}
		})
		_, err := f.Snapshot(t.Context())
		mustSay(t, err, registry.ErrUnavailable, "READONLY")
		_, err = f.Beat(t.Context(), registry.Beat{Lease: lease})
		mustSay(t, err, registry.ErrUnavailable, "READONLY")
	})
	t.Run("UnknownMaster", func(t *testing.T) {
		f := b.open(t, func(cfg *redis.Config) { cfg.SentinelMaster = "nobody" })
		_, err := f.Snapshot(t.Context())
		mustSay(t, err, registry.ErrUnavailable, "master of that name")
	})

	f := b.open(t, quick)
	keeper, w := keepAlive(f), f.watch()
	var fields []string
	for _, id := range []string{"m1", "m2", "m3"} {
		f.register(instance("echo", id, "one"), true)
		w.next()
		fields = append(fields, "echo/"+id)
	}
	before := f.snapshot().Version
	s.Primary.Must("WAIT", 1, 5000)
	s.Primary.Pause()
	s.AwaitFailover()
	primary = s.Replica
	keeper.works()
	after := instance("echo", "m4", "one")
	f.register(after, true)
	// Its message comes on the new subscription, or came before that was in force: then the Reset says to read.
	w.reset()
	f.expect(append(fields, "echo/m4")...)
	if got := f.snapshot().Version; got <= before {
		t.Errorf("the version went from %d to %d", before, got)
	}
	w.works(f)
	fields = append(fields, "echo/m4", "marker/works")

	// The old primary comes back as a replica and changes nothing.
	s.Primary.Resume()
	keeper.works()
	f.expect(fields...)
	if keeper.pruned() != 0 {
		t.Errorf("%d were pruned", keeper.pruned())
	}
	t.Run("After", func(t *testing.T) { runStoreSuite(t, b) })
}

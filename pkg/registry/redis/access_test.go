package redis_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// setUser makes a user by the access rules of cfg, which it returns with that user in it.
func setUser(t *testing.T, cfg redis.Config, all []*redistest.Server, more ...any) redis.Config {
	t.Helper()
	cfg.Username, cfg.Password = "advised", "pa55"
	command := []any{"ACL", "SETUSER", cfg.Username, "on", ">" + cfg.Password}
	for _, rule := range redis.AccessRules(cfg) {
		command = append(command, rule)
	}
	for _, s := range all {
		s.Must(append(slices.Clone(command), more...)...)
	}
	return cfg
}

// Categories such as @write have commands that ask for no key.
func TestUserOfTheAccessRulesCannotReachWhatIsNotFlyproxys(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Config{})
	s.Must("SET", "other-app", "precious")
	// What it had before is taken away.
	s.Must("ACL", "SETUSER", "advised", "+@all", "~*", "&*")
	cfg := setUser(t, redis.Config{Addresses: []string{s.Addr()}, DB: 1}, []*redistest.Server{s})
	f := backend{config: redis.Config{Addresses: cfg.Addresses, DB: 1, Username: cfg.Username, Password: cfg.Password}}.
		open(t, func(c *redis.Config) { c.Namespace = "" })
	f.register(instance("echo", "m1", "one"), true)

	client := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Username: cfg.Username, Password: cfg.Password, Protocol: 2, DisableIdentity: true})
	defer client.Close()
	own := "flyproxy:v1:{default}:"
	for _, line := range []string{
		"FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "CONFIG GET *", "CLIENT LIST", "CLIENT KILL TYPE normal",
		"ACL LIST", "SCRIPT FLUSH", "FUNCTION FLUSH", "SHUTDOWN NOSAVE", "REPLICAOF NO ONE", "MONITOR", "INFO", "GET other-app",
		"SET other-app gone", "RENAME " + own + "beat other-app", "COPY " + own + "beat other-app", "PUBLISH other-app x", "SUBSCRIBE other-app",
		"PSUBSCRIBE *", "SORT other-app", "MIGRATE 127.0.0.1 1 " + own + "beat 0 1",
		"EVAL return(redis.call('FLUSHALL')) 0", "EVAL return(redis.call('GET','other-app')) 0",
	} {
		var args []any
		for word := range strings.FieldsSeq(line) {
			args = append(args, word)
		}
		if err := client.Do(t.Context(), args...).Err(); err == nil ||
			!strings.Contains(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "can't run this command") &&
				!strings.Contains(err.Error(), "can't access") && !strings.Contains(err.Error(), "ACL failure") {
			t.Errorf("%s: %v, want it refused for the lack of a right", line, err)
		}
	}
	if got := s.Text("GET", "other-app"); got != "precious" {
		t.Errorf("other-app is %q", got)
	}
	f.expect("echo/m1")
}

// The suite has namespaces of its own for each test; the rules' own keys and channel are the matter of the test above and of the watches
// below.
func TestAccessRulesAreEnough(t *testing.T) {
	t.Parallel()
	s, b := onServer(t, redistest.Config{})
	b.config = setUser(t, b.config, []*redistest.Server{s}, "~flyproxy:v1:*", "&flyproxy:v1:*")
	runStoreSuite(t, b)
}

// Watch and scripts run with the rules alone, in each mode, and an inspection finds nothing denied.
func TestAccessRulesInEachMode(t *testing.T) {
	t.Parallel()
	alone := redistest.Start(t, redistest.Config{})
	cluster := redistest.StartCluster(t, redistest.ClusterConfig{})
	sentinel := redistest.StartSentinel(t, redistest.Config{})
	for what, tc := range map[string]struct {
		cfg redis.Config
		on  []*redistest.Server
	}{
		"standalone":          {redis.Config{Addresses: []string{alone.Addr()}}, []*redistest.Server{alone}},
		"another database":    {redis.Config{Addresses: []string{alone.Addr()}, DB: 3}, []*redistest.Server{alone}},
		"another namespace":   {redis.Config{Addresses: []string{alone.Addr()}, Namespace: "a-b.c_D"}, []*redistest.Server{alone}},
		string(redis.Cluster): {redis.Config{Addresses: cluster.Addrs(), Mode: redis.Cluster}, cluster.Nodes},
		string(redis.Sentinel): {redis.Config{Addresses: sentinel.Addrs(), Mode: redis.Sentinel, SentinelMaster: redistest.MasterName},
			[]*redistest.Server{sentinel.Primary, sentinel.Replica}},
	} {
		t.Run(what, func(t *testing.T) {
			cfg := setUser(t, tc.cfg, tc.on)
			f := backend{config: cfg}.open(t, func(c *redis.Config) { c.Namespace = cfg.Namespace })
			w := f.watch()
			inst := instance("echo", "m1", "one")
			f.register(inst, true)
			if change := w.next(); change.Kind != registry.Put {
				t.Errorf("the watch said %+v", change)
			}
			f.beat(inst)
			f.expect("echo/m1")
			if in := inspect(t, cfg); in.Err != nil || in.Rights.Scripts != nil || len(in.Rights.Denied) > 0 || in.Rights.How == "" || in.SubscribeErr != nil {
				t.Errorf("the inspection found %+v", in)
			}
			if err := f.Deregister(context.Background(), inst.Key(), inst.Incarnation); err != nil {
				t.Error(err)
			}
		})
	}
}

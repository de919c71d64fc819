package e2e_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// The fleet's times. The interval is that of the defaults, five times as fast. The lease is twice as many beats as by default, so that
// a machine which is busy ends nobody's.
const (
	interval = time.Second
	lease    = 6 * time.Second
)

// fleet is ten sidecars with an app each, in three regions, on one registry.
func fleet(t *testing.T, env ...string) []*sidecar {
	t.Helper()
	regions := []string{"ams", "fra", "iad"}
	var all []*sidecar
	for i := range 10 {
		id, region := fmt.Sprintf("m%d", i), regions[i%len(regions)]
		_, port := startApp(t, id, region)
		all = append(all, startSidecar(t, id, region, port, env...))
	}
	sees(t, 10, all...)
	return all
}

// times are the settings for a beat every interval and a lease.
func times(interval, lease time.Duration) []string {
	return []string{"FLYPROXY_REGISTRATION_INTERVAL=" + interval.String(), "FLYPROXY_REGISTRATION_LEASE=" + lease.String()}
}

func TestFleetOnOneRedis(t *testing.T) { eachEngine(t, fleetOnOneRedis) }

func fleetOnOneRedis(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	env := append(times(interval, lease), engine, "REDIS_URL=redis://"+redis.Addr())
	all := fleet(t, env...)

	t.Run("one command a sidecar and interval", func(t *testing.T) { onlyBeats(t, redis, all) })

	calls := startLoad(t, 25*time.Millisecond, all[1:]...)

	t.Run("a killed sidecar's record goes", func(t *testing.T) {
		all[0].signal(syscall.SIGKILL)
		took := eventually(t, "the record is gone from Redis", func() bool {
			return redis.Text("HEXISTS", instancesKey, "battle/m0") == "0"
		})
		t.Logf("gone after %v; lease and one beat are %v", took.Round(time.Millisecond), lease+interval)
		sees(t, 9, all[1:]...)
	})

	// The killed one comes back as a new process.
	_, port := startApp(t, "m0", "ams")
	all[0] = startSidecar(t, "m0", "ams", port, env...)
	sees(t, 10, all...)

	// The new process outlives the subtest.
	t.Run("an old process cannot remove the new record", func(sub *testing.T) { oldProcess(t, sub, redis, all, env) })

	for _, trouble := range []struct {
		name string
		make func()
	}{
		{"FLUSHALL", func() { redis.Must("FLUSHALL") }},
		{"Redis restarts empty", func() { redis.Kill(); redis.Restart() }},
		{"Redis stops for longer than a lease", func() {
			redis.Pause()
			// The pause is the trouble itself: every lease ends in it.
			<-time.NewTimer(lease + interval).C
			redis.Resume()
		}},
	} {
		t.Run(trouble.name, func(t *testing.T) {
			watched := nobodyLeaves(t, all)
			trouble.make()
			took := eventually(t, "all ten are in Redis", func() bool {
				return redis.Text("HLEN", instancesKey) == "10"
			})
			t.Logf("all ten in Redis %v after; one beat is %v", took.Round(time.Millisecond), interval)
			sees(t, 10, all...)
			watched()
		})
	}
	t.Logf("through the surviving sidecars: %s", calls.stop())
}

// oldProcess stops a process, starts another with its id, and lets the old one go on.
func oldProcess(whole, t *testing.T, redis *redistest.Server, all []*sidecar, env []string) {
	old := all[0]
	old.signal(syscall.SIGSTOP)
	_, port := startApp(whole, "m0", "ams")
	all[0] = startSidecar(whole, "m0", "ams", port, env...)
	record := func() string { return redis.Text("HGET", instancesKey, "battle/m0") }
	mine := fmt.Sprintf(`127.0.0.1:%d"`, port)
	eventually(t, "the new process holds the record", func() bool { return strings.Contains(record(), mine) })
	old.signal(syscall.SIGCONT)
	eventually(t, "the old process knows that it was superseded", func() bool {
		st, ok := old.status()
		return ok && len(st.Self.Apps) == 1 && st.Self.Apps[0].Registration == admin.Superseded
	})
	if !strings.Contains(old.output(), `"level":"ERROR","msg":"another process has registered under this instance's id`) {
		t.Error("the old process does not say it loudly")
	}
	old.signal(syscall.SIGTERM)
	old.exit(patience)
	if !strings.Contains(record(), mine) {
		t.Errorf("after the old process ended the record is %q", record())
	}
	sees(t, 10, all...)
}

func TestFleetOverASentinelFailover(t *testing.T) { eachEngine(t, fleetOverASentinelFailover) }

func fleetOverASentinelFailover(t *testing.T, engine string) {
	set := redistest.StartSentinel(t, redistest.Config{})
	all := fleet(t, append(times(interval, lease), engine, "FLYPROXY_REGISTRY_REDIS_MODE=sentinel",
		"FLYPROXY_REGISTRY_REDIS_SENTINEL_MASTER="+redistest.MasterName,
		"FLYPROXY_REGISTRY_REDIS_ADDRESSES="+strings.Join(set.Addrs(), ","))...)
	calls := startLoad(t, 25*time.Millisecond, all...)
	watched := nobodyLeaves(t, all)
	began := time.Now()
	set.Primary.Kill()
	set.AwaitFailover()
	elected := time.Since(began)
	took := eventually(t, "every sidecar's view is current again, with all ten", func() bool {
		for _, s := range all {
			st, ok := s.status()
			if !ok || st.Registry.State != "current" || s.serving() != 10 {
				return false
			}
		}
		return true
	})
	watched()
	t.Logf("failover took %v; all ten current %v after it; meanwhile %s",
		elected.Round(time.Millisecond), took.Round(time.Millisecond), calls.stop())
}

package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	pb "github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// The fleet's times: those of the defaults, five times as fast.
const (
	interval = time.Second
	lease    = 3 * time.Second
	// slack is what a loaded machine may add to a bound; the figures themselves are logged.
	slack = 2 * time.Second
)

// fleet is ten sidecars with an app each, in three regions, on one registry.
func fleet(t *testing.T, registryEnv ...string) []*sidecar {
	t.Helper()
	regions := []string{"ams", "fra", "iad"}
	var all []*sidecar
	for i := range 10 {
		id, region := fmt.Sprintf("m%d", i), regions[i%len(regions)]
		_, port := startApp(t, id, region)
		all = append(all, startSidecar(t, id, region, port, fleetEnv(registryEnv)...))
	}
	sees(t, 10, 30*time.Second, all...)
	return all
}

func fleetEnv(registryEnv []string) []string {
	return append([]string{
		"FLYPROXY_REGISTRATION_INTERVAL=" + interval.String(), "FLYPROXY_REGISTRATION_LEASE=" + lease.String(),
		"FLYPROXY_REGISTRY_REDIS_TIMEOUT=500ms",
	}, registryEnv...)
}

// scripts is how often Redis was asked to run a script since it started.
func scripts(t *testing.T, redis *redistest.Server) int {
	t.Helper()
	m := regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`).FindStringSubmatch(redis.Text("INFO", "commandstats"))
	if m == nil {
		t.Fatal("no evalsha was counted")
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFleetOnOneRedis(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	env := "REDIS_URL=redis://" + redis.Addr()
	all := fleet(t, env)

	t.Run("one command a sidecar and interval", func(t *testing.T) {
		const intervals = 8
		before := scripts(t, redis)
		began := time.Now()
		timer := time.NewTimer(intervals * interval)
		<-timer.C
		calls := scripts(t, redis) - before
		per := float64(calls) / 10 / (float64(time.Since(began)) / float64(interval))
		t.Logf("%d script calls by 10 sidecars in %v: %.3f a sidecar and interval", calls, time.Since(began).Round(time.Millisecond), per)
		if per < 0.85 || per > 1.15 {
			t.Errorf("%.3f script calls a sidecar and interval, want 1", per)
		}
	})

	calls := startLoad(t, 25*time.Millisecond, all[1:]...)

	t.Run("a registration is pushed to all", func(t *testing.T) { registrationIsPushed(t, all, env) })

	t.Run("a killed sidecar's record goes", func(t *testing.T) {
		all[0].signal(syscall.SIGKILL)
		took := eventually(t, lease+interval+slack, "the record is gone from Redis", func() bool {
			return redis.Text("HEXISTS", "flyproxy:v1:{default}:instances", "battle/m0") == "0"
		})
		t.Logf("gone after %v; lease and one beat are %v", took.Round(time.Millisecond), lease+interval)
		sees(t, 9, slack, all[1:]...)
	})

	// The killed one comes back as a new process.
	_, port := startApp(t, "m0", "ams")
	all[0] = startSidecar(t, "m0", "ams", port, fleetEnv([]string{env})...)
	sees(t, 10, 10*time.Second, all...)

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
			timer := time.NewTimer(lease + interval)
			<-timer.C
			redis.Resume()
		}},
	} {
		t.Run(trouble.name, func(t *testing.T) {
			watched := neverEmpty(t, all)
			trouble.make()
			took := eventually(t, interval+2*slack, "all ten are in Redis", func() bool {
				return redis.Text("HLEN", "flyproxy:v1:{default}:instances") == "10"
			})
			t.Logf("all ten in Redis %v after; one beat is %v", took.Round(time.Millisecond), interval)
			sees(t, 10, 2*slack, all...)
			watched()
		})
	}
	t.Logf("%d calls through the surviving sidecars, none failed", calls.stop())
}

// registrationIsPushed starts an eleventh sidecar and looks when each of the ten tells its watchers.
func registrationIsPushed(t *testing.T, all []*sidecar, env string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	type seen struct {
		by   string
		took time.Duration
	}
	news := make(chan seen, len(all))
	for _, s := range all {
		stream, err := pb.NewDiscoveryClient(s.dial(t)).WatchInstances(ctx, &pb.WatchInstancesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil { // the snapshot
			t.Fatalf("watch through %s: %v", s.id, err)
		}
		go func() {
			for {
				m, err := stream.Recv()
				if err != nil {
					return // the test's context ends it
				}
				if strings.Contains(m.String(), `"late"`) {
					// The version is Redis' time in µs when it wrote the record, by the clock of this machine.
					news <- seen{s.id, time.Since(time.UnixMicro(int64(m.GetVersion())))}
					return
				}
			}
		}()
	}
	_, port := startApp(t, "late", "ams")
	late := startSidecar(t, "late", "ams", port, fleetEnv([]string{env})...)
	var slowest seen
	for range all {
		select {
		case s := <-news:
			if s.took > slowest.took {
				slowest = s
			}
		case <-ctx.Done():
			t.Fatal("not all sidecars told of the new instance")
		}
	}
	t.Logf("the slowest of ten sidecars told its watcher of the new instance %v after Redis wrote it", slowest.took.Round(10*time.Microsecond))
	// Beats alone would take up to a whole interval.
	if slowest.took > interval/2 {
		t.Errorf("%s took %v: that is found by a beat, not pushed", slowest.by, slowest.took)
	}
	late.signal(syscall.SIGTERM)
	if code := late.exit(10 * time.Second); code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
	sees(t, 10, slack, all...)
}

// oldProcess stops a process, starts another with its id, and lets the old one go on.
func oldProcess(whole, t *testing.T, redis *redistest.Server, all []*sidecar, env string) {
	old := all[0]
	old.signal(syscall.SIGSTOP)
	_, port := startApp(whole, "m0", "ams")
	all[0] = startSidecar(whole, "m0", "ams", port, fleetEnv([]string{env})...)
	record := func() string { return redis.Text("HGET", "flyproxy:v1:{default}:instances", "battle/m0") }
	mine := fmt.Sprintf(`127.0.0.1:%d"`, port)
	eventually(t, 10*time.Second, "the new process holds the record", func() bool { return strings.Contains(record(), mine) })
	old.signal(syscall.SIGCONT)
	eventually(t, 10*time.Second, "the old process knows that it was superseded", func() bool {
		st, ok := old.status()
		return ok && len(st.Self.Apps) == 1 && st.Self.Apps[0].Registration == admin.Superseded
	})
	if !strings.Contains(old.output(), `"level":"ERROR","msg":"another process has registered under this instance's id`) {
		t.Error("the old process does not say it loudly")
	}
	old.signal(syscall.SIGTERM)
	old.exit(15 * time.Second)
	if !strings.Contains(record(), mine) {
		t.Errorf("after the old process ended the record is %q", record())
	}
	sees(t, 10, slack, all...)
}

// neverEmpty watches that every sidecar shows all ten instances, held or not, until the returned function is called.
func neverEmpty(t *testing.T, all []*sidecar) (end func()) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			for _, s := range all {
				if st, ok := s.status(); ok && len(st.Instances) < 10 {
					t.Errorf("%s shows only %d instances", s.id, len(st.Instances))
					return
				}
			}
		}
	}()
	return func() { close(stop); <-done }
}

func TestFleetOverASentinelFailover(t *testing.T) {
	set := redistest.StartSentinel(t, redistest.Config{})
	all := fleet(t, "FLYPROXY_REGISTRY_REDIS_MODE=sentinel", "FLYPROXY_REGISTRY_REDIS_SENTINEL_MASTER="+redistest.MasterName,
		"FLYPROXY_REGISTRY_REDIS_ADDRESSES="+strings.Join(set.Addrs(), ","))
	calls := startLoad(t, 25*time.Millisecond, all...)
	watched := neverEmpty(t, all)
	began := time.Now()
	set.Primary.Kill()
	set.AwaitFailover()
	elected := time.Since(began)
	took := eventually(t, interval+3*slack, "every sidecar's view is current again, with all ten", func() bool {
		for _, s := range all {
			st, ok := s.status()
			if !ok || st.Registry.State != "current" || s.serving() != 10 {
				return false
			}
		}
		return true
	})
	watched()
	t.Logf("failover took %v; all ten current %v after it; %d calls meanwhile, none failed",
		elected.Round(time.Millisecond), took.Round(time.Millisecond), calls.stop())
}

// get reads a page of the admin listener.
func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(bufio.NewReader(res.Body))
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

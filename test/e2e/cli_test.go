package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/flyproxy/flyproxy/pkg/admin"
	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// runCLI runs flyproxy to its end with only the given environment.
func runCLI(t *testing.T, env []string, args ...string) (code int, out string) {
	t.Helper()
	p := start(t, "flyproxy "+strings.Join(args, " "), env, append([]string{flyproxy}, args...)...)
	code = p.exit(patience)
	return code, p.output()
}

func TestWhatAUserCanGetWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	app := freePort(t)
	redis := "REDIS_URL=redis://127.0.0.1:1"
	base := []string{"FLYPROXY_SERVICE=battle", "FLYPROXY_ADMIN_LISTEN=127.0.0.1:0", fmt.Sprintf("GRPC_PORT=%d", app)}
	for _, tc := range []struct {
		name string
		env  []string
		args []string
		code int
		want []string
	}{
		{"a typo in the environment", append(base, redis, "FLYPROXY_ROUTING_POLICI=x"), []string{"serve"}, 78,
			[]string{"FLYPROXY_ROUTING_POLICI", "FLYPROXY_ROUTING_POLICY"}},
		{"several faults at once", append(base, redis, "FLYPROXY_ROUTING_POLICY=fastest", "FLYPROXY_DRAIN_TIMEOUT=soon", "FLYPROXY_LISTEN=50052"),
			[]string{"config", "check"}, 78, []string{"fastest", "weighted_load", "soon", "FLYPROXY_LISTEN"}},
		{"a file that is not there", append(base, redis), []string{"serve", "--config", "nowhere.yaml"}, 78, []string{"nowhere.yaml"}},
		{"no registry", base, []string{"serve"}, 78, []string{"Service discovery not configured", "REDIS_URL"}},
		{"the app is our own listener", append(base, redis, fmt.Sprintf("FLYPROXY_LISTEN=127.0.0.1:%d", app)), []string{"serve"}, 78,
			[]string{"loop"}},
		{"a port that is taken", append(base, redis, "FLYPROXY_LISTEN="+taken.Addr().String()), []string{"serve"}, 1,
			[]string{"in use", "FLYPROXY_LISTEN", taken.Addr().String()}},
		{"an admin port that is taken", append(base, redis, "FLYPROXY_LISTEN=127.0.0.1:0", "FLYPROXY_ADMIN_LISTEN="+taken.Addr().String()),
			[]string{"serve"}, 1, []string{"in use", "FLYPROXY_ADMIN_LISTEN"}},
		{"an unknown command", base, []string{"sevre"}, 64, []string{`"sevre"`, `"serve"`}},
		{"an unknown flag", base, []string{"serve", "--prot=1"}, 64, []string{"--prot"}},
		{"status of nothing", base, []string{"status", "--addr", "127.0.0.1:1"}, 1, []string{"127.0.0.1:1", "is it running"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out := runCLI(t, tc.env, tc.args...)
			if code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
		})
	}
}

func TestConfigCommands(t *testing.T) {
	env := []string{"FLYPROXY_SERVICE=battle", "REDIS_URL=redis://user:hunter2@redis.example:6380/0"}
	code, out := runCLI(t, env, "config", "print")
	if code != 0 || strings.Contains(out, "hunter2") || !strings.Contains(out, "REDIS_URL") || !strings.Contains(out, "redis.example") {
		t.Errorf("config print: exit code %d\n%s", code, out)
	}
	if code, out := runCLI(t, env, "config", "check"); code != 0 || !strings.Contains(out, "good") {
		t.Errorf("config check: exit code %d\n%s", code, out)
	}
	if code, out := runCLI(t, nil, "version"); code != 0 || !strings.HasPrefix(out, "flyproxy ") {
		t.Errorf("version: exit code %d\n%s", code, out)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out := runCLI(t, nil, "completion", shell); code != 0 || len(out) < 500 {
			t.Errorf("completion %s: exit code %d, %d bytes", shell, code, len(out))
		}
	}
}

func TestAdminPages(t *testing.T) { eachEngine(t, adminPages) }

func adminPages(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	_, port := startApp(t, "m0", "ams")
	s := startSidecar(t, "m0", "ams", port, engine, "REDIS_URL=redis://"+redis.Addr(), "FLY_VM_MEMORY_MB=256")
	sees(t, 1, s)
	base := "http://" + s.admin()
	if code, body := get(t, base+"/health"); code != 200 {
		t.Errorf("/health: %d %s", code, body)
	}
	code, body := get(t, base+"/ready")
	var ready admin.Readiness
	if err := json.Unmarshal([]byte(body), &ready); err != nil || code != 200 || !ready.Ready || ready.Degraded {
		t.Errorf("/ready: %d %s %v", code, body, err)
	}
	calls := startLoad(t, 5*time.Millisecond, s)
	eventually(t, "calls are in the metrics", func() bool {
		_, body := get(t, base+"/metrics")
		return strings.Contains(body, `flyproxy_calls_total{method="flyproxy.demo.v1.Greeter/Hello",peer_region="ams",service="battle",status="OK"}`)
	})
	calls.stop()
	_, body = get(t, base+"/metrics")
	for _, want := range []string{
		"flyproxy_call_duration_seconds_bucket", "flyproxy_calls_in_flight 0", "flyproxy_peer_connections", `flyproxy_instances{service="battle",state="serving"} 1`,
		"flyproxy_registry_duration_seconds", "flyproxy_registry_staleness_seconds", `flyproxy_picks_total{policy="weighted_load",reason="self"}`, "flyproxy_build_info",
		"go_gc_gomemlimit_bytes 6.7108864e+07", // a quarter of the Machine's memory
		`flyproxy_peer_connections{state="ready"} 1`, `flyproxy_peer_connections{state="silent"} 0`, "flyproxy_client_connections 1",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if code, out := runCLI(t, nil, "status", "--addr", s.admin()); code != 0 || !strings.Contains(out, "m0") || !strings.Contains(out, "serving") {
		t.Errorf("status: exit code %d\n%s", code, out)
	}
	code, out := runCLI(t, nil, "status", "--addr", s.admin(), "--json")
	var st admin.Status
	if err := json.Unmarshal([]byte(out), &st); err != nil || code != 0 || st.Self.InstanceID != "m0" {
		t.Errorf("status --json: exit code %d, %v\n%s", code, err, out)
	}
	relayMetrics(t, engine, s)
}

// relayMetrics are what only the relay knows, and the other engine does not claim to.
func relayMetrics(t *testing.T, engine string, s *sidecar) {
	t.Helper()
	relay := engine == "FLYPROXY_ENGINE=relay"
	rtt := func() float64 {
		st, ok := s.status()
		if !ok || len(st.Instances) != 1 {
			return 0
		}
		return st.Instances[0].View.RTTMS
	}
	if relay {
		eventually(t, "the status has a round-trip time", func() bool { return rtt() > 0 })
	} else if rtt() != 0 {
		t.Errorf("the status has a round-trip time of %v ms", rtt())
	}
	_, metrics := get(t, "http://"+s.admin()+"/metrics")
	for _, name := range []string{
		`flyproxy_limit_hits_total{limit="max_calls"} 0`, `flyproxy_limit_hits_total{limit="handshake_timeout"} 0`,
		`flyproxy_retries_total{reason="refused"} 0`, `flyproxy_retries_total{reason="policy"} 0`, "flyproxy_buffered_bytes 0",
		"flyproxy_replay_bytes 0", `flyproxy_peer_rtt_seconds{region="ams"} `,
	} {
		if strings.Contains(metrics, "\n"+name) != relay {
			t.Errorf("/metrics has %s: %v", name, !relay)
		}
	}
}

// Calls that are slow or failed have a line in the log, the same whichever engine forwards them.
func TestAccessLog(t *testing.T) { eachEngine(t, accessLog) }

func accessLog(t *testing.T, engine string) {
	_, port := startApp(t, "m0", "ams")
	s := startSidecar(t, "m0", "ams", port, engine, "FLYPROXY_ACCESS_LOG_SLOW=200ms",
		fmt.Sprintf(`FLYPROXY_REGISTRY_STATIC=[{service: battle, id: m0, address: "127.0.0.1:%d", region: ams}]`, port))
	sees(t, 1, s)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := pb.NewGreeterClient(s.dial(t))
	if _, err := client.Hello(ctx, &pb.HelloRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := client.Hello(metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", "nobody"), &pb.HelloRequest{}); err == nil {
		t.Error("a call that is pinned to nobody succeeds")
	}
	stream, err := client.Count(ctx, &pb.CountRequest{Times: 2, PauseMs: 250})
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	for _, want := range []string{
		`"msg":"call failed","service":"battle","method":"/flyproxy.demo.v1.Greeter/Hello","code":"UNAVAILABLE","peer":"","region":"","latency":"`,
		`"msg":"slow call","service":"battle","method":"/flyproxy.demo.v1.Greeter/Count","code":"OK","peer":"m0","region":"ams","latency":"`,
	} {
		eventually(t, "the log has "+want, func() bool { return strings.Contains(s.output(), want) })
	}
	if n := strings.Count(s.output(), `,"attempts":`); n != 2 {
		t.Errorf("%d lines for calls, want 2", n)
	}
}

func TestDemo(t *testing.T) { eachEngine(t, demoRuns) }

func demoRuns(t *testing.T, engine string) {
	// Its ports are taken, so that it has to say so and take others.
	taken := make([]string, 0, 2)
	for _, address := range []string{"127.0.0.1:50052", "127.0.0.1:9052"} {
		if lis, err := net.Listen("tcp", address); err == nil {
			defer lis.Close()
		}
		_, port, _ := net.SplitHostPort(address)
		taken = append(taken, "Port "+port+" is taken")
	}
	p := start(t, "demo", []string{engine}, flyproxy, "demo", "--for", "10s")
	code := p.exit(2 * patience)
	out := p.output()
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range append(taken, "grpcurl -plaintext localhost:", "answered by ams-2", "stopping ams-2", "answered by fra-", "starting ams-2", ", 0 failed") {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	// grpcurl, as the demo tells people to use it.
	p = start(t, "demo", []string{engine}, flyproxy, "demo")
	var target string
	eventually(t, "the demo says how to call it", func() bool {
		_, after, ok := strings.Cut(p.output(), "grpcurl -plaintext ")
		target, _, _ = strings.Cut(after, " ")
		return ok && strings.Contains(after, "call 1")
	})
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"-plaintext", target, "list"}, "flyproxy.demo.v1.Greeter"},
		{[]string{"-plaintext", "-d", `{"name": "you"}`, target, "flyproxy.demo.v1.Greeter/Hello"}, "Hello, you!"},
		{[]string{"-plaintext", "-H", "fly-force-instance-id: iad-2", target, "flyproxy.demo.v1.Greeter/Hello"}, "iad-2"},
		{[]string{"-plaintext", target, "grpc.health.v1.Health/Check"}, "SERVING"},
	} {
		cmd := exec.Command("go", append([]string{"tool", "grpcurl"}, tc.args...)...)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), tc.want) {
			t.Errorf("grpcurl %q: %v\n%s", tc.args, err, out)
		}
	}
	p.signal(syscall.SIGINT)
	if code := p.exit(patience); code != 0 {
		t.Errorf("Ctrl-C: exit code %d", code)
	}
}

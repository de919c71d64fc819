package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// diagnosis is what `flyproxy doctor --json` prints, as a program of somebody else's would read it.
type diagnosis struct {
	Worst    string `json:"worst"`
	Findings []struct{ Check, ID, Level, Subject, Found, Do string }
}

func (d *diagnosis) has(id string) bool {
	return slices.ContainsFunc(d.Findings, func(f struct{ Check, ID, Level, Subject, Found, Do string }) bool { return f.ID == id })
}

// bad are the IDs of warnings and errors.
func (d *diagnosis) bad() []string {
	var all []string
	for _, f := range d.Findings {
		if (f.Level == "warning" || f.Level == "error") && !slices.Contains(all, f.ID) {
			all = append(all, f.ID)
		}
	}
	slices.Sort(all)
	return all
}

func readDiagnosis(t *testing.T, out string) *diagnosis {
	t.Helper()
	var d diagnosis
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return &d
}

// runDoctor runs it with the environment of a sidecar, and gives its exit code too.
func runDoctor(t *testing.T, env []string) (int, *diagnosis) {
	t.Helper()
	return runDoctorAs(t, env)
}

func runDoctorAs(t *testing.T, env []string, args ...string) (int, *diagnosis) {
	t.Helper()
	code, out := runCLI(t, env, append([]string{"doctor", "--json", "--timeout", "30s"}, args...)...)
	return code, readDiagnosis(t, out)
}

func TestDoctor(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{Password: "s3cret"})
	url := "REDIS_URL=redis://:s3cret@" + redis.Addr()
	_, port0 := startApp(t, "m0", "ams")
	_, port1 := startApp(t, "m1", "fra")
	s0 := startSidecar(t, "m0", "ams", port0, url)
	s1 := startSidecar(t, "m1", "fra", port1, url)
	sees(t, 2, s0, s1)

	t.Run("all is well", func(t *testing.T) {
		code, d := runDoctor(t, s0.env)
		if code != 0 || d.Worst != "note" || len(d.bad()) > 0 {
			t.Errorf("exit code %d, worst %s: %q", code, d.Worst, d.bad())
		}
		for _, id := range []string{"configuration.good", "sidecar.ready", "listeners.flyproxy", "app.serving", "app.reflection", "app.advertised",
			"redis.rights", "registry.read", "record.current", "peers.reached"} {
			if !d.has(id) {
				t.Errorf("it does not say %s: %+v", id, d.Findings)
			}
		}
		code, text := runCLI(t, s0.env, "doctor")
		if code != 0 || !strings.Contains(text, "battle/m1 in fra") || strings.Contains(text, "\x1b") || strings.Contains(text, "s3cret") {
			t.Errorf("exit code %d:\n%s", code, text)
		}
	})
	t.Run("no sidecar runs", func(t *testing.T) {
		free := freePort(t)
		code, d := runDoctor(t, append(slices.Clone(s0.env), "FLYPROXY_INSTANCE_ID=m2",
			fmt.Sprintf("FLYPROXY_LISTEN=localhost:%d", free), fmt.Sprintf("FLYPROXY_ADMIN_LISTEN=127.0.0.1:%d", freePort(t))))
		if want := []string{"sidecar.absent"}; code != 2 || !slices.Equal(d.bad(), want) {
			t.Errorf("exit code %d, %q, want 2, %q", code, d.bad(), want)
		}
	})
	t.Run("a wrong password", func(t *testing.T) {
		code, out := runCLI(t, append(slices.Clone(s0.env), "REDIS_URL=redis://:wr0ng@"+redis.Addr()), "doctor", "--json")
		d := readDiagnosis(t, out)
		if want := []string{"redis.password-wrong"}; code != 1 || !slices.Equal(d.bad(), want) || strings.Contains(out, "wr0ng") {
			t.Errorf("exit code %d, %q, want 1, %q", code, d.bad(), want)
		}
	})
	t.Run("the port is a stranger's", func(t *testing.T) {
		stranger := freePort(t)
		web := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", stranger), Handler: http.NotFoundHandler()}
		served := make(chan error, 1)
		go func() { served <- web.ListenAndServe() }()
		defer func() { _ = web.Close(); <-served }()
		eventually(t, "the web server answers", func() bool { code, _ := get(t, "http://"+web.Addr); return code == 404 })
		code, d := runDoctor(t, append(slices.Clone(s0.env), fmt.Sprintf("FLYPROXY_LISTEN=127.0.0.1:%d", stranger)))
		if want := []string{"listeners.taken"}; code != 1 || !slices.Equal(d.bad(), want) {
			t.Errorf("exit code %d, %q, want 1, %q", code, d.bad(), want)
		}
	})
	t.Run("the app is stopped, which still accepts connections", func(t *testing.T) {
		port := freePort(t)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		hung := start(t, "app", nil, filepath.Join(filepath.Dir(flyproxy), "app"), "serve", address, "m3", "ams")
		eventually(t, "the app accepts", func() bool {
			conn, err := net.Dial("tcp", address)
			return err == nil && conn.Close() == nil
		})
		hung.signal(syscall.SIGSTOP)
		code, d := runDoctor(t, append(slices.Clone(s0.env), "FLYPROXY_INSTANCE_ID=m3", fmt.Sprintf("GRPC_PORT=%d", port),
			fmt.Sprintf("FLYPROXY_LISTEN=localhost:%d", freePort(t)), fmt.Sprintf("FLYPROXY_ADMIN_LISTEN=127.0.0.1:%d", freePort(t))))
		if want := []string{"app.silent", "sidecar.absent"}; code != 1 || !slices.Equal(d.bad(), want) {
			t.Errorf("exit code %d, %q, want 1, %q\n%+v", code, d.bad(), want, d.Findings)
		}
	})
	t.Run("a fault in the configuration", func(t *testing.T) {
		code, d := runDoctor(t, append(slices.Clone(s0.env), "FLYPROXY_ROUTING_POLICY=fastest"))
		if want := []string{"configuration.fault"}; code != 78 || !slices.Equal(d.bad(), want) || !d.has("peers.reached") {
			t.Errorf("exit code %d, %q, want 78, %q", code, d.bad(), want)
		}
	})
	t.Run("usage", func(t *testing.T) {
		if code, out := runCLI(t, nil, "doctor", "--timeout", "1ms"); code != 64 || !strings.Contains(out, "--timeout") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	})
	t.Run("withdrawn on request", func(t *testing.T) {
		socket := "FLYPROXY_ADMIN_SOCKET=unix://" + filepath.Join(t.TempDir(), "control.sock")
		s2 := startSidecar(t, "m2", "ams", port0, url, socket)
		sees(t, 3, s2)
		code, d := runDoctor(t, s2.env)
		if code != 0 || !d.has("record.current") {
			t.Errorf("before: exit code %d, %q", code, d.bad())
		}
		if code, out := runCLI(t, s2.env, "withdraw", "--now"); code != 0 {
			t.Fatalf("withdraw: exit code %d:\n%s", code, out)
		}
		code, d = runDoctor(t, s2.env)
		if want := []string{"record.withdrawn", "sidecar.degraded"}; code != 2 || !slices.Equal(d.bad(), want) {
			t.Errorf("exit code %d, %q, want 2, %q", code, d.bad(), want)
		}
		code, d = runDoctor(t, append(slices.Clone(s2.env), socket+"s"))
		if code != 2 || !d.has("listeners.no-control-socket") {
			t.Errorf("with another socket: exit code %d, %q", code, d.bad())
		}
	})
	t.Run("superseded", func(t *testing.T) {
		newer := startSidecar(t, "m0", "ams", port0, url, "FLYPROXY_REGISTRATION_INTERVAL=100ms", "FLYPROXY_REGISTRATION_LEASE=1s")
		sees(t, 2, newer)
		eventually(t, "the older one is superseded", func() bool {
			st, ok := s0.status()
			return ok && len(st.Self.Apps) == 1 && st.Self.Apps[0].Registration == "superseded"
		})
		if code, d := runDoctor(t, s0.env); code != 1 || !d.has("record.superseded") || !d.has("sidecar.degraded") {
			t.Errorf("exit code %d, %q", code, d.bad())
		}
		if code, d := runDoctor(t, newer.env); code != 0 || !d.has("record.current") {
			t.Errorf("of the newer one: exit code %d, %q", code, d.bad())
		}
	})
}

// The mode of a gateway is often on its command line only, and its list of networks need not have loopback.
func TestDoctorOfAGateway(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	admin, calls := freePort(t), freePort(t)
	env := []string{
		"REDIS_URL=redis://" + redis.Addr(), "FLYPROXY_SERVICE=battle", "FLYPROXY_INSTANCE_ID=gw", "FLYPROXY_REGION=ams",
		fmt.Sprintf("FLYPROXY_ADMIN_LISTEN=127.0.0.1:%d", admin), fmt.Sprintf("FLYPROXY_LISTEN=[::]:%d", calls),
		fmt.Sprintf("GRPC_PORT=%d", freePort(t)),
	}
	ready := func() bool { code, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/ready", admin)); return code == 200 }
	for what, tc := range map[string]struct {
		networks, says string
	}{
		"loopback is allowed":        {"127.0.0.0/8,::1/128", "listeners.flyproxy"},
		"loopback is not allowed":    {"fdaa:dead::/32", "listeners.not-for-this-host"},
		"IPv6's loopback is allowed": {"::1/128", "listeners.flyproxy"},
	} {
		t.Run(what, func(t *testing.T) {
			env := append(slices.Clone(env), "FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS="+tc.networks)
			gw := start(t, "gateway", env, flyproxy, "serve", "--mode", "gateway")
			eventually(t, "the gateway is ready", ready)
			code, d := runDoctor(t, env)
			if code != 0 || len(d.bad()) > 0 || !d.has("configuration.mode") || !d.has("record.not-expected") || !d.has("sidecar.ready") || !d.has(tc.says) {
				t.Errorf("exit code %d, %q, want 0 and %s\n%+v", code, d.bad(), tc.says, d.Findings)
			}
			if strings.Contains(gw.output(), "a client was refused") {
				t.Errorf("doctor is in the gateway's log:\n%s", gw.output())
			}
			code, d = runDoctorAs(t, env, "--mode", "gateway")
			if code != 0 || len(d.bad()) > 0 || d.has("configuration.mode") || !d.has(tc.says) {
				t.Errorf("with --mode: exit code %d, %q\n%+v", code, d.bad(), d.Findings)
			}
			code, d = runDoctorAs(t, env, "--mode", "sidecar") // who says it is believed: a sidecar may not listen there
			if code != 78 || !d.has("configuration.fault") {
				t.Errorf("with --mode sidecar: exit code %d, %q\n%+v", code, d.bad(), d.Findings)
			}
			gw.signal(syscall.SIGTERM)
			if code := gw.exit(patience); code != 0 {
				t.Errorf("the gateway ended with %d", code)
			}
		})
	}
}

// On a Machine with a 6PN address of its own: an app that is bound to IPv4 is seen to be hidden from peers, or to be spliced.
func TestDoctorOn6PN(t *testing.T) {
	_, ipErr := exec.LookPath("ip")
	_, redisErr := exec.LookPath("redis-server")
	need(t, "root with iproute2, and redis-server", os.Geteuid() == 0 && ipErr == nil && redisErr == nil)
	app := filepath.Join(filepath.Dir(flyproxy), "app")
	a, b := twoMachines(t)
	dir := t.TempDir()
	// The file system is shared, so each has its control socket in a place of its own.
	socket := func(m *machine) string { return "FLYPROXY_ADMIN_SOCKET=unix://" + filepath.Join(dir, m.ns+".sock") }
	for _, m := range []*machine{a, b} {
		m.hosts(map[string]string{"fly-local-6pn": m.addr, "battle.internal": a.addr, "machine-" + m.ns[len(m.ns)-1:] + ".vm.battle.internal": m.addr})
	}
	a.start("redis", nil, "redis-server", "--bind", a.addr, "--port", "6379", "--protected-mode", "no", "--save", "")
	a.start("app a", nil, app, "serve", "[::]:50051", "machine-a", "ams")
	b.start("app b", nil, app, "serve", "127.0.0.1:50051", "machine-b", "ams") // Go binds 0.0.0.0 to IPv6 too
	examine := func(m *machine, id string, more ...string) (int, *diagnosis) {
		t.Helper()
		out := m.start("doctor", append(m.fly(id, a.addr), append(more, socket(m))...), flyproxy, "doctor", "--json", "--timeout", "30s")
		code := out.exit(patience + patience)
		return code, readDiagnosis(t, out.output())
	}
	eventually(t, "both apps and Redis accept", func() bool {
		_, errA := a.run(app, "call", "127.0.0.1:50051", "1")
		_, errB := b.run(app, "call", "127.0.0.1:50051", "1")
		_, errRedis := a.run("redis-cli", "-h", a.addr, "ping")
		return errA == nil && errB == nil && errRedis == nil
	})

	code, d := examine(b, "machine-b")
	if want := []string{"sidecar.absent"}; code != 2 || !slices.Equal(d.bad(), want) || !d.has("app.to-be-spliced") || !d.has("identity.address") {
		t.Errorf("without a sidecar: exit code %d, %q, want 2, %q\n%+v", code, d.bad(), want, d.Findings)
	}
	code, d = examine(b, "machine-b", `FLYPROXY_APPS=[{"name": "app", "inbound": "never"}]`)
	if want := []string{"app.hidden-from-peers", "sidecar.absent"}; code != 1 || !slices.Equal(d.bad(), want) {
		t.Errorf("without a splice: exit code %d, %q, want 1, %q\n%+v", code, d.bad(), want, d.Findings)
	}
	code, d = examine(b, "machine-b", "FLY_PRIVATE_IP="+a.addr)
	if code != 1 || !d.has("identity.foreign-address") || !d.has("dns.other-address") {
		t.Errorf("with the other's address: exit code %d, %q\n%+v", code, d.bad(), d.Findings)
	}

	a.start("sidecar a", append(a.fly("machine-a", a.addr), socket(a)), flyproxy)
	b.start("sidecar b", append(b.fly("machine-b", a.addr), socket(b)), flyproxy)
	eventually(t, "each sees the other", func() bool {
		for _, m := range []*machine{a, b} {
			if out, err := m.run(flyproxy, "status"); err != nil || !strings.Contains(out, "2 known: 2 serving") {
				return false
			}
		}
		return true
	})
	for m, bound := range map[*machine]string{a: "app.advertised", b: "app.spliced"} {
		code, d := examine(m, "machine-"+m.ns[len(m.ns)-1:])
		if code != 0 || len(d.bad()) > 0 || !d.has(bound) || !d.has("record.current") || !d.has("peers.reached") || !d.has("dns.resolved") {
			t.Errorf("%s: exit code %d, %q, want %s\n%+v", m.ns, code, d.bad(), bound, d.Findings)
		}
		if !d.has("redis.open") {
			t.Errorf("%s: it does not say that Redis asks for no password", m.ns)
		}
	}

	// A gateway is judged as one: it has no app and no record.
	gw := []string{"FLYPROXY_ADMIN_LISTEN=[::]:9053", "FLYPROXY_ADMIN_SOCKET=unix://" + filepath.Join(dir, "gw.sock"), "FLYPROXY_MODE=gateway"}
	gw = append(b.fly("machine-b", a.addr), gw...)
	b.start("gateway", gw, flyproxy, "serve")
	eventually(t, "the gateway knows both", func() bool {
		out, err := b.run(flyproxy, "status", "--addr", "localhost:9053")
		return err == nil && strings.Contains(out, "2 known: 2 serving")
	})
	out := b.start("doctor", gw, flyproxy, "doctor", "--json", "--timeout", "30s")
	code, d = out.exit(patience+patience), readDiagnosis(t, out.output())
	if code != 0 || len(d.bad()) > 0 || !d.has("app.none") || !d.has("record.not-expected") || !d.has("listeners.flyproxy") || d.has("listeners.free") {
		t.Errorf("of a gateway: exit code %d, %q\n%+v", code, d.bad(), d.Findings)
	}

	// A peer that has gone without a word, and then the way to Redis itself.
	record := `{"service":"battle","id":"gone","incarnation":"i","schema":1,"address":"[fdaa:0:1::dead]:50051","grpc_port":50051,"state":"serving",` +
		`"started_at":"2026-01-01T00:00:00Z"}`
	if out, err := a.run("redis-cli", "-h", a.addr, "HSET", "flyproxy:v1:{default}:instances", "battle/gone", record); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	code, d = examine(b, "machine-b")
	if want := []string{"peers.unreachable"}; code != 1 || !slices.Equal(d.bad(), want) || !d.has("peers.reached") {
		t.Errorf("with a peer gone: exit code %d, %q, want 1, %q\n%+v", code, d.bad(), want, d.Findings)
	}
	ip(t, "-n", a.ns, "link", "set", a.ns, "down")
	code, d = examine(b, "machine-b")
	if code != 1 || !d.has("redis.unreachable") {
		t.Errorf("without a way to Redis: exit code %d, %q\n%+v", code, d.bad(), d.Findings)
	}
}

// hosts gives the machine an /etc/hosts of its own, as ip-netns(8) says. It is gone with the test.
func (m *machine) hosts(names map[string]string) {
	m.t.Helper()
	dir := filepath.Join("/etc/netns", m.ns)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	text := "127.0.0.1 localhost\n::1 localhost\n"
	for name, address := range names {
		text += address + " " + name + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

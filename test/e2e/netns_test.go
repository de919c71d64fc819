package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/test/internal/netns"
	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// machine is a network namespace with an fdaa:: address of its own, as a Fly Machine has, and with nothing of it on IPv4.
type machine struct {
	t        testing.TB
	ns, addr string
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	netns.IP(t, args...)
}

// twoMachines makes two namespaces that are joined by a veth pair.
func twoMachines(t testing.TB) (a, b *machine) {
	t.Helper()
	tag := fmt.Sprintf("fp%d", os.Getpid())
	a = &machine{t: t, ns: tag + "a", addr: "fdaa:0:1::a"}
	b = &machine{t: t, ns: tag + "b", addr: "fdaa:0:1::b"}
	for _, m := range []*machine{a, b} {
		netns.Add(t, m.ns)
	}
	ip(t, "link", "add", a.ns, "netns", a.ns, "type", "veth", "peer", "name", b.ns, "netns", b.ns)
	for _, m := range []*machine{a, b} {
		ip(t, "-n", m.ns, "link", "set", m.ns, "up")
		ip(t, "-n", m.ns, "addr", "add", m.addr+"/64", "dev", m.ns, "nodad")
	}
	return a, b
}

// start runs a program in the machine.
func (m *machine) start(name string, env []string, argv ...string) *process {
	m.t.Helper()
	return start(m.t, name, env, append([]string{"ip", "netns", "exec", m.ns}, argv...)...)
}

// run runs a program in the machine to its end.
func (m *machine) run(argv ...string) (string, error) {
	cmd := exec.Command("ip", append([]string{"netns", "exec", m.ns}, argv...)...)
	cmd.Env = append(os.Environ(), proc.AtOnce)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// fly is the environment that Fly gives a Machine, and a registry.
func (m *machine) fly(id, redis string) []string {
	return []string{
		"FLY_APP_NAME=battle", "FLY_MACHINE_ID=" + id, "FLY_REGION=ams", "FLY_PRIVATE_IP=" + m.addr,
		"REDIS_URL=redis://[" + redis + "]:6379", "FLYPROXY_LOG_LEVEL=debug",
		// The default is a path of this host, which its namespaces share.
		"FLYPROXY_ADMIN_SOCKET=unix://" + filepath.Join(filepath.Dir(flyproxy), m.ns+".sock"),
	}
}

// On 6PN there is only IPv6. An app that is bound to 127.0.0.1, and one that is bound to 0.0.0.0 as is usual, must be reached all
// the same, with nothing of it changed.
func TestAppsWithoutIPv6AreReachedOver6PN(t *testing.T) {
	eachEngine(t, appsWithoutIPv6AreReachedOver6PN)
}

func appsWithoutIPv6AreReachedOver6PN(t *testing.T, engine string) {
	_, err := exec.LookPath("redis-server")
	need(t, "root with iproute2, and redis-server", netns.Possible() && err == nil)
	app := filepath.Join(filepath.Dir(flyproxy), "app")
	a, b := twoMachines(t)
	a.start("redis", nil, "redis-server", "--bind", a.addr, "--port", "6379", "--protected-mode", "no", "--save", "")
	a.start("app a", nil, app, "serve", "127.0.0.1:50051", "machine-a", "ams")
	b.start("app b", nil, app, "serve", "0.0.0.0:50051", "machine-b", "ams")
	a.start("sidecar a", append(a.fly("machine-a", a.addr), engine), flyproxy)
	b.start("sidecar b", append(b.fly("machine-b", a.addr), engine), flyproxy, "serve")
	for _, from := range []struct {
		*machine
		want string
	}{{b, "machine-a"}, {a, "machine-b"}} {
		var out string
		eventually(t, "the other machine's app answers in "+from.ns, func() bool {
			var err error
			out, err = from.run(app, "call", "localhost:50052", "5")
			return err == nil && strings.TrimSpace(out) == strings.TrimSpace(strings.Repeat(from.want+"\n", 5))
		})
	}
	out, err := b.run(flyproxy, "status", "--addr", "["+a.addr+"]:9052")
	if err != nil {
		t.Fatalf("status of the other machine: %v\n%s", err, out)
	}
	for _, want := range []string{"machine-a", "machine-b", "[" + a.addr + "]:50051"} {
		if !strings.Contains(out, want) {
			t.Errorf("status lacks %q:\n%s", want, out)
		}
	}
	// The splice is closed with the app: peers are refused at once and go elsewhere.
	t.Log(out)
}

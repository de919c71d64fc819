package e2e_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// An app may dial a unix socket in place of localhost, beside which that works too. What a killed process leaves of it is in nobody's
// way.
func TestUnixSocket(t *testing.T) { eachEngine(t, unixSocket) }

func unixSocket(t *testing.T, engine string) {
	_, port := startApp(t, "m0", "ams")
	path := filepath.Join(t.TempDir(), "flyproxy.sock")
	local := freePort(t)
	env := []string{
		engine, fmt.Sprintf("FLYPROXY_LISTEN=unix://%s,localhost:%d", path, local),
		fmt.Sprintf(`FLYPROXY_REGISTRY_STATIC=[{service: battle, id: m0, address: "127.0.0.1:%d", region: ams}]`, port),
	}
	app := filepath.Join(filepath.Dir(flyproxy), "app")
	calls := func(t *testing.T) {
		t.Helper()
		for _, target := range []string{"unix://" + path, "unix:" + path, fmt.Sprintf("localhost:%d", local)} {
			p := start(t, "client", nil, app, "call", target, "3")
			if code := p.exit(patience); code != 0 || p.output() != "m0\nm0\nm0\n" {
				t.Errorf("%s: exit code %d, %s", target, code, p.output())
			}
		}
	}
	s := startSidecar(t, "m0", "ams", port, env...)
	sees(t, 1, s)
	calls(t)
	if st, ok := s.status(); !ok || st.Self.Listen[0] != "unix://"+path {
		t.Errorf("the status says that it listens on %q", st.Self.Listen)
	}

	curl, err := exec.Command("go", "tool", "grpcurl", "-plaintext", "-unix", path, "list").CombinedOutput()
	if err != nil || !strings.Contains(string(curl), "flyproxy.demo.v1.Greeter") {
		t.Errorf("grpcurl: %v %s", err, curl)
	}

	code, out := runCLI(t, append([]string{"FLYPROXY_SERVICE=battle", "FLYPROXY_ADMIN_LISTEN=127.0.0.1:0"}, env...), "serve")
	if code != 1 || !strings.Contains(out, "unix://"+path+" is in use by another process") || !strings.Contains(out, "FLYPROXY_LISTEN") {
		t.Errorf("a second one: exit code %d\n%s", code, out)
	}

	s.signal(syscall.SIGKILL)
	s.exit(patience)
	s = startSidecar(t, "m0", "ams", port, env...)
	sees(t, 1, s)
	calls(t)
}

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
	"github.com/flyproxy/flyproxy/test/internal/proc"
)

func testApp() string { return filepath.Join(filepath.Dir(flyproxy), "app") }

// runSidecar is startSidecar for `flyproxy run` with the test's app, or what else argv says.
func runSidecar(t *testing.T, id string, env []string, argv ...string) *sidecar {
	t.Helper()
	appPort := freePort(t)
	if len(argv) == 0 {
		argv = []string{testApp(), "serve", fmt.Sprintf("127.0.0.1:%d", appPort), id, "ams"}
	}
	return startSidecarAs(t, append([]string{"run", "--"}, argv...), id, "ams", appPort, env...)
}

var appPid = regexp.MustCompile(`the app was started.*?"?pid"?[=:](\d+)`)

// appPids are the process ids of the apps that it has started so far.
func (s *sidecar) appPids() (all []int) {
	for _, m := range appPid.FindAllStringSubmatch(s.output(), -1) {
		n, _ := strconv.Atoi(m[1])
		all = append(all, n)
	}
	return all
}

// The way of a stop: peers learn of it, then the app has its signal, then all ends with the app's exit code, and no call is lost.
func TestRunStopsInOrder(t *testing.T) {
	redis := "REDIS_URL=redis://" + redistest.Start(t, redistest.Config{}).Addr()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			namespace := "FLYPROXY_REGISTRY_NAMESPACE=" + strings.ReplaceAll(sig.String(), " ", "-")
			r := runSidecar(t, "m0", []string{redis, namespace})
			_, port := startApp(t, "m1", "ams")
			s := startSidecar(t, "m1", "ams", port, redis, namespace)
			sees(t, 2, r, s)
			l := startLoad(t, time.Millisecond, s, s) // its own app comes last, so all calls go to m0 while it is there
			eventually(t, "calls reach m0", func() bool { return l.answeredBy("m0") > 50 })
			r.signal(sig)
			if code := r.exit(patience); code != 0 {
				t.Errorf("exit code %d", code)
			}
			eventually(t, "calls reach m1", func() bool { return l.answeredBy("m1") > 50 })
			t.Log(l.stop())
			out := r.output()
			var at []int
			for _, step := range []string{"stopping the app", "deregistered", "app: ended in good order", "the app has ended", "draining"} {
				at = append(at, strings.Index(out, step))
			}
			for i := range at[1:] {
				if at[i] < 0 || at[i+1] < at[i] {
					t.Fatalf("not in order, at %v:\n%s", at, out)
				}
			}
		})
	}
}

// What the app does not survive, its registration does not either, and it is not started again unless that was asked for.
func TestRunEndsWithItsApp(t *testing.T) {
	redis := "REDIS_URL=redis://" + redistest.Start(t, redistest.Config{}).Addr()
	_, port := startApp(t, "m1", "ams")
	s := startSidecar(t, "m1", "ams", port, redis)
	r := runSidecar(t, "m0", []string{redis})
	sees(t, 2, s)
	if err := syscall.Kill(r.appPids()[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	sees(t, 1, s)
	if code := r.exit(patience); code != 128+9 {
		t.Errorf("exit code %d", code)
	}
}

func TestRunRestartsItsApp(t *testing.T) {
	redis := "REDIS_URL=redis://" + redistest.Start(t, redistest.Config{}).Addr()
	_, port := startApp(t, "m1", "ams")
	s := startSidecar(t, "m1", "ams", port, redis)
	// The wait is longer than it takes to look.
	r := runSidecar(t, "m0", []string{redis, "FLYPROXY_RUN_RESTART=on-failure", "FLYPROXY_RUN_BACKOFF_BASE=2s"})
	sees(t, 2, s)
	l := startLoad(t, 2*time.Millisecond, r) // the app's own calls and others of its Machine go on while it is down
	first := r.appPids()[0]
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, "withdrawn", func() bool { return s.serving() == 1 })
	back := eventually(t, "back", func() bool { return s.serving() == 2 })
	t.Logf("gone %v after the crash, back %v later", took.Round(time.Millisecond), back.Round(time.Millisecond))
	t.Log(l.stop())
	if pids := r.appPids(); len(pids) != 2 || pids[0] == pids[1] {
		t.Errorf("apps %v", pids)
	}
	r.signal(syscall.SIGTERM)
	if code := r.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// runOnce runs `flyproxy run` to its end, with a registry that needs no Redis, and with standard output and error apart.
func runOnce(t *testing.T, env []string, argv ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), flyproxy, append([]string{"run", "--"}, argv...)...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), proc.AtOnce, "FLYPROXY_SERVICE=battle", fmt.Sprintf("FLYPROXY_LISTEN=127.0.0.1:%d", freePort(t)),
		fmt.Sprintf("FLYPROXY_ADMIN_LISTEN=127.0.0.1:%d", freePort(t)), fmt.Sprintf("GRPC_PORT=%d", freePort(t)),
		`FLYPROXY_REGISTRY_STATIC=[{service: other, address: "127.0.0.1:9"}]`,
	}, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Stdin = strings.NewReader("what it reads")
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestRunPassesAllThrough(t *testing.T) {
	code, stdout, stderr := runOnce(t, []string{"OF_THE_APP=a b"},
		"sh", "-c", `printf '\000\377raw %s %s' "$OF_THE_APP" "$1"; cat; printf 'no newline' >&2; exit 3`, "sh", "--port=1")
	if code != 3 || stdout != "\x00\xffraw a b --port=1what it reads" || !strings.Contains(stderr, "no newline") {
		t.Errorf("exit code %d, output %q, errors:\n%s", code, stdout, stderr)
	}
}

func TestRunOfWhatCannotRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte("#!/nowhere/node\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		code int
		says string
		argv []string
	}{
		{64, "no app: write its command line after --", nil},
		{127, "in no folder of PATH", []string{"flyproxy-has-no-such-app"}},
		{127, "names an interpreter", []string{file}},
		{126, "no permission to execute it", []string{"/etc/passwd"}},
		{2, `how="exit code 2"`, []string{"sh", "-c", "exit 2"}},
	} {
		code, stdout, stderr := runOnce(t, []string{"FLYPROXY_LOG_FORMAT=text"}, tt.argv...)
		if code != tt.code || !strings.Contains(stderr, tt.says) || stdout != "" {
			t.Errorf("%v: exit code %d, output %q, errors:\n%s", tt.argv, code, stdout, stderr)
		}
	}
}

// What an operator has taken out of the registry, a restart of the app must not bring back.
func TestRestartKeepsAnOperatorsWithdrawal(t *testing.T) {
	redis := "REDIS_URL=redis://" + redistest.Start(t, redistest.Config{}).Addr()
	socket := "FLYPROXY_ADMIN_SOCKET=unix://" + filepath.Join(t.TempDir(), "control.sock")
	r := runSidecar(t, "m0", []string{redis, socket, "FLYPROXY_RUN_RESTART=always", "FLYPROXY_RUN_BACKOFF_BASE=10ms"})
	sees(t, 1, r)
	ask := func(flag string) {
		t.Helper()
		p := start(t, flag, []string{"FLYPROXY_SERVICE=battle", redis, socket}, flyproxy, "withdraw", flag)
		if code := p.Exit(patience); code != 0 {
			t.Fatalf("%s: exit code %d", flag, code)
		}
	}
	ask("--now")
	sees(t, 0, r)
	if err := syscall.Kill(r.appPids()[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the app is there again, and healthy", func() bool {
		st, ok := r.status()
		return ok && len(r.appPids()) == 2 && st.Self.Apps[0].Health.State == "healthy" && st.Self.Apps[0].Reason == "withdrawn on request"
	})
	if n := r.serving(); n != 0 {
		t.Errorf("%d registered", n)
	}
	ask("--undo")
	sees(t, 1, r)
	r.Signal(syscall.SIGTERM)
	if code := r.Exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Killed, flyproxy can stop nothing, and whoever starts it again needs the app's port.
func TestAppEndsWhenRunIsKilled(t *testing.T) {
	redis := "REDIS_URL=redis://" + redistest.Start(t, redistest.Config{}).Addr()
	r := runSidecar(t, "m0", []string{redis})
	sees(t, 1, r)
	r.Signal(syscall.SIGKILL)
	proc.Eventually(t, "the app ends in good order", func() bool { return strings.Contains(r.Output(), "app: ended in good order") })
}

func TestRunKillsAnAppThatIgnoresItsSignal(t *testing.T) {
	redis := "REDIS_URL=redis://" + redistest.Start(t, redistest.Config{}).Addr()
	r := runSidecar(t, "m0", []string{redis, "FLYPROXY_RUN_STOP_TIMEOUT=300ms"},
		"sh", "-c", `trap 'echo ignored' TERM; echo up; while :; do sleep 0.05; done`)
	eventually(t, "the app is up", func() bool { return strings.Contains(r.output(), "up\n") })
	r.signal(syscall.SIGTERM)
	if code := r.exit(patience); code != 137 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"ignored", "did not end in the time after its signal and is killed", "run.stop_timeout"} {
		if !strings.Contains(r.output(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

// As PID 1 of a container, it is the parent of all that lose theirs.
func TestRunReapsOrphansAsPID1(t *testing.T) {
	_, err := exec.LookPath("unshare")
	need(t, "root with unshare", os.Geteuid() == 0 && err == nil)
	dir := t.TempDir()
	// The app leaves 20 processes of sessions of their own, looks for zombies until there are none, and says how many it has seen.
	script := `cd ` + dir + `
for i in $(seq 20); do sh -c 'setsid sh -c "echo x >>started; while [ ! -e go ]; do sleep 0.01; done; echo x >>ended" &'; done
while [ "$(wc -l <started 2>/dev/null || echo 0)" -ne 20 ]; do sleep 0.01; done
touch go
while [ "$(wc -l <ended 2>/dev/null || echo 0)" -ne 20 ]; do sleep 0.01; done
while cat /proc/[0-9]*/stat 2>/dev/null | grep -q ") Z "; do sleep 0.01; done
echo "parent $PPID, no zombies"`
	cmd := exec.CommandContext(t.Context(), "unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
		flyproxy, "run", "--", "sh", "-c", script)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), proc.AtOnce, "FLYPROXY_SERVICE=battle", "FLYPROXY_LISTEN=127.0.0.1:0", "FLYPROXY_ADMIN_LISTEN=127.0.0.1:0",
		fmt.Sprintf("GRPC_PORT=%d", freePort(t)), `FLYPROXY_REGISTRY_STATIC=[{service: other, address: "127.0.0.1:9"}]`,
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || out.String() != "parent 1, no zombies\n" {
		t.Errorf("%v, output %q, errors:\n%s", err, out.String(), errs.String())
	}
}

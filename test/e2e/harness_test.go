package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/demo"
	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// eachEngine runs a test of the data plane with each engine. The test is given the setting that selects it, for its sidecars.
func eachEngine(t *testing.T, run func(t *testing.T, engine string)) {
	for _, name := range []string{"relay", "grpc"} {
		t.Run(name, func(t *testing.T) { run(t, "FLYPROXY_ENGINE="+name) })
	}
}

// patience bounds every wait. What a test finds out about times it logs and does not judge: they depend on the machine.
const patience = proc.Patience

// flyproxy is the program under test, built once.
var flyproxy string

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "flyproxy-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	flyproxy = filepath.Join(dir, "flyproxy")
	build := exec.Command("go", append(append([]string{"build"}, raceFlags...), "-o", dir, "../../cmd/flyproxy", "../app")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func need(t testing.TB, what string, ok bool) {
	t.Helper()
	proc.Need(t, what, ok)
}

// freePort gives a port that was free a moment ago on every loopback address. It lies below those that the system gives to
// outgoing connections, or one of these could take it before the program that it is meant for. None is given twice: who was given it
// first may not have bound it yet.
func freePort(t testing.TB) int {
	t.Helper()
	for range 500 {
		port := 12000 + rand.IntN(20000)
		_, given := givenPorts.LoadOrStore(port, true)
		free := !given
		for _, host := range []string{"127.0.0.1", "::1"} {
			lis, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
			if err != nil {
				free = false
				break
			}
			_ = lis.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// givenPorts are those that freePort has given.
var givenPorts sync.Map

// process is a program that runs beside the test.
type process struct {
	*proc.Process
	done <-chan struct{} // closed once it has ended
}

func (p *process) signal(s syscall.Signal) { p.Signal(s) }
func (p *process) output() string          { return p.Output() }

func (p *process) exit(within time.Duration) int { return p.Exit(within) }

// start runs a program with only the given environment. It is ended with the test; what it printed is shown if the test failed.
func start(t testing.TB, name string, env []string, argv ...string) *process {
	t.Helper()
	p := proc.Start(t, name, env, argv...)
	return &process{p, p.Done()}
}

func eventually(t testing.TB, what string, ok func() bool) time.Duration {
	t.Helper()
	return proc.Eventually(t, what, ok)
}

// startApp runs the demo's app in this process, on 127.0.0.1 unless another host is named.
func startApp(t testing.TB, id, region string) (app *demo.App, port int) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	app = demo.NewApp(id, region)
	served := make(chan error, 1)
	go func() { served <- app.Serve(lis) }()
	t.Cleanup(func() {
		app.Stop()
		if err := <-served; err != nil {
			t.Errorf("app %s: %v", id, err)
		}
	})
	return app, lis.Addr().(*net.TCPAddr).Port
}

// sidecar is a flyproxy process and where it listens.
type sidecar struct {
	*process
	id            string
	port, adminAt int
	env           []string // what it was started with
}

// startSidecar runs a sidecar for the app at appPort; env adds to and overrides its environment.
func startSidecar(t testing.TB, id, region string, appPort int, env ...string) *sidecar {
	t.Helper()
	return startSidecarAs(t, []string{"serve"}, id, region, appPort, env...)
}

// startSidecarAs runs another command than serve that is a sidecar too.
func startSidecarAs(t testing.TB, args []string, id, region string, appPort int, env ...string) *sidecar {
	t.Helper()
	s := &sidecar{id: id, port: freePort(t), adminAt: freePort(t)}
	base := []string{
		"FLYPROXY_SERVICE=battle", "FLYPROXY_INSTANCE_ID=" + id, "FLYPROXY_REGION=" + region,
		fmt.Sprintf("FLYPROXY_LISTEN=localhost:%d", s.port), fmt.Sprintf("FLYPROXY_ADMIN_LISTEN=127.0.0.1:%d", s.adminAt),
		fmt.Sprintf("GRPC_PORT=%d", appPort), "FLYPROXY_LOG_LEVEL=debug",
	}
	s.env = append(base, env...)
	s.process = start(t, "sidecar "+id, s.env, append([]string{flyproxy}, args...)...)
	return s
}

func (s *sidecar) admin() string { return fmt.Sprintf("127.0.0.1:%d", s.adminAt) }

// status asks for /cluster/status; ok is false while there is no answer.
func (s *sidecar) status() (st admin.Status, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := admin.FetchStatus(ctx, s.admin())
	return st, err == nil
}

// serving counts the instances that the sidecar sees as serving and not merely held.
func (s *sidecar) serving() int {
	st, ok := s.status()
	if !ok {
		return -1
	}
	n := 0
	for _, in := range st.Instances {
		if in.State == "serving" && !in.Held {
			n++
		}
	}
	return n
}

// sees waits until every one of the sidecars sees n serving instances.
func sees(t testing.TB, n int, all ...*sidecar) {
	t.Helper()
	for _, s := range all {
		eventually(t, fmt.Sprintf("%s sees %d serving instances", s.id, n),
			func() bool { return s.serving() == n })
	}
}

// dial connects to a sidecar as an app does: to localhost.
func (s *sidecar) dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	return dial(t, fmt.Sprintf("localhost:%d", s.port))
}

func dial(t testing.TB, target string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// get reads a page of the admin listener; code is 0 while there is no answer.
func get(t testing.TB, url string) (code int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error() // the process ended meanwhile
	}
	return res.StatusCode, string(b)
}

// jsonLines decodes what a client printed: one JSON object a line.
func jsonLines(t testing.TB, out []byte) map[string]map[string]any {
	t.Helper()
	all := make(map[string]map[string]any)
	for line := range bytes.Lines(out) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("client printed %q: %v", line, err)
		}
		all[fmt.Sprint(m["what"])] = m
	}
	return all
}

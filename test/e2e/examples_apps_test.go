package e2e_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// exampleApps are the commands of the two examples, by language.
func exampleApps(t *testing.T) map[string][]string {
	t.Helper()
	node, err := exec.LookPath("node")
	need(t, "node", err == nil)
	dir, err := filepath.Abs("../../examples/node")
	if err != nil {
		t.Fatal(err)
	}
	built, err := os.Stat(filepath.Join(dir, "dist", ".built"))
	need(t, "the example in TypeScript, built (examples/node/dist)", err == nil)
	newer := ""
	err = filepath.WalkDir(filepath.Join(dir, "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == "generated" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() && info.ModTime().After(built.ModTime()) {
			newer = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	need(t, "a build of the example in TypeScript that is as new as "+newer, newer == "")
	app := filepath.Join(t.TempDir(), "battle")
	build := exec.Command("go", append(append([]string{"build"}, raceFlags...), "-o", app, "../../examples/go")...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return map[string][]string{"go": {app}, "node": {node, filepath.Join(dir, "dist", "main.js")}}
}

// fighter is an app of the examples with its sidecar.
type fighter struct {
	*process
	t        *testing.T
	sidecar  *sidecar
	id       string
	argv     []string
	env      []string
	grpc     int
	http     string // where its pages are
	restarts int
}

func startFighter(t *testing.T, id string, argv []string, env ...string) *fighter {
	t.Helper()
	f := &fighter{t: t, id: id, argv: argv, grpc: freePort(t)}
	page := freePort(t)
	f.http = fmt.Sprintf("http://127.0.0.1:%d", page)
	port := freePort(t)
	f.env = []string{
		"FLY_MACHINE_ID=" + id, "FLY_REGION=ams", fmt.Sprint("GRPC_PORT=", f.grpc), fmt.Sprint("PORT=", page),
		fmt.Sprint("FLYPROXY_ADDR=localhost:", port),
	}
	// A Machine's programs share its environment.
	f.sidecar = startSidecar(t, id, "ams", f.grpc, slices.Concat(f.env, env, []string{fmt.Sprint("FLYPROXY_LISTEN=localhost:", port)})...)
	f.sidecar.port = port
	f.run()
	return f
}

// startMachine is the same with one process for both, as the examples' images have it: flyproxy run -- app.
func startMachine(t *testing.T, id string, argv []string, env ...string) *fighter {
	t.Helper()
	f := &fighter{t: t, id: id, argv: append([]string{flyproxy, "run", "--"}, argv...), grpc: freePort(t)}
	f.sidecar = &sidecar{id: id, port: freePort(t), adminAt: freePort(t)}
	page := freePort(t)
	f.http = fmt.Sprintf("http://127.0.0.1:%d", page)
	f.env = append([]string{
		"FLYPROXY_SERVICE=battle", "FLYPROXY_INSTANCE_ID=" + id, "FLYPROXY_REGION=ams",
		fmt.Sprint("GRPC_PORT=", f.grpc), fmt.Sprint("PORT=", page), fmt.Sprint("FLYPROXY_ADDR=localhost:", f.sidecar.port),
		fmt.Sprint("FLYPROXY_LISTEN=localhost:", f.sidecar.port), "FLYPROXY_ADMIN_LISTEN=" + f.sidecar.admin(),
	}, env...)
	f.run()
	return f
}

func (f *fighter) run() {
	f.restarts++
	p := start(f.t, fmt.Sprint("app ", f.id, " ", f.restarts), f.env, f.argv...)
	f.process = p
	// A parent that is killed leaves its app behind, which holds what the test reads from: it is asked first.
	f.t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(patience):
		}
	})
}

// page asks a page of the app and decodes it.
func (f *fighter) page(path string, into any) {
	f.t.Helper()
	code, body := get(f.t, f.http+path)
	if code != http.StatusOK || json.Unmarshal([]byte(body), into) != nil {
		f.t.Fatalf("%s of %s: %d %s", path, f.id, code, body)
	}
}

// answer is what a page says of who answered.
type answer struct {
	Instance string `json:"instance_id"`
	Region   string `json:"region"`
	Number   int    `json:"number"`
	Action   string `json:"action"`
}

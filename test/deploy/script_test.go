package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/test/deploy/standin"
)

const root = "../.."

// flyproxy is the real binary, fly the stand-in's.
var flyproxy, fly string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "deploy")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	flyproxy, fly = filepath.Join(dir, "flyproxy"), filepath.Join(dir, "fly")
	if out, err := exec.Command("go", "build", "-o", dir+"/", root+"/cmd/flyproxy", "./fly").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A result is what one run of the script ended with.
type result struct {
	code     int
	output   string // standard output and standard error, as one sees them
	platform *standin.Platform
	took     time.Duration
}

// A place is a project with the script, and a machine with a stand-in for fly.
type place struct {
	project, platform, path string
}

// newPlace copies what the script needs of the project. Names are those under which the stand-in is on PATH.
func newPlace(t *testing.T, p standin.Platform, names ...string) *place {
	t.Helper()
	pl := &place{project: t.TempDir(), platform: t.TempDir(), path: t.TempDir()}
	for _, name := range []string{"tools/deploy-flyio-cluster.sh", "fly.toml", "configs/fly-containers.toml"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(pl.project, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		if err := os.Symlink(fly, filepath.Join(pl.path, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Save(pl.platform); err != nil {
		t.Fatal(err)
	}
	return pl
}

// environ is what processes of this place have, besides env. By the directory in it running finds them.
func (pl *place) environ(env ...string) []string {
	return append([]string{
		"PATH=" + pl.path + ":/usr/bin:/bin", "HOME=" + pl.platform, standin.DirVariable + "=" + pl.platform, standin.FlyproxyVariable + "=" + flyproxy,
	}, env...)
}

func (pl *place) script(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(pl.project, "tools/deploy-flyio-cluster.sh"), args...)
	cmd.Env = pl.environ(env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// fly is a call of the stand-in, as a user makes one.
func (pl *place) fly(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), fly, args...)
	cmd.Env = pl.environ()
	return cmd
}

// running are the command lines of this place's processes.
func (pl *place) running(t *testing.T) (all []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(files) == 0 {
		t.Fatalf("processes cannot be listed: %v", err)
	}
	for _, file := range files {
		environ, err := os.ReadFile(file) // it may be gone, or another user's
		if err != nil || !slices.Contains(strings.Split(string(environ), "\x00"), standin.DirVariable+"="+pl.platform) {
			continue
		}
		if line, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline")); err == nil && len(line) > 0 {
			all = append(all, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")))
		}
	}
	return all
}

// run runs the script with these variables alone, within a minute.
func (pl *place) run(t *testing.T, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := pl.script(ctx, env, args...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	r := result{output: string(out), took: time.Since(start)}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Fatalf("it does not end:\n%s", out)
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	if r.platform, err = standin.Load(pl.platform); err != nil {
		t.Fatal(err)
	}
	return r
}

// want checks the exit code, and that the output has all of the texts.
func (r result) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	for _, text := range texts {
		if !strings.Contains(r.output, text) {
			t.Errorf("it does not say %q", text)
		}
	}
	if t.Failed() {
		t.Logf("%s\ncalls: %q", r.output, r.platform.Calls)
	}
}

// commands are the calls' first two words.
func (r result) commands() []string {
	var all []string
	for _, c := range r.platform.Calls {
		all = append(all, strings.Join(c.Args[:min(2, len(c.Args))], " "))
	}
	return all
}

// changed tells whether a call has changed anything.
func (r result) changed() bool {
	for _, c := range r.commands() {
		if !slices.Contains([]string{"auth whoami", "status --app", "secrets list", "ssh console", "scale show"}, c) {
			return true
		}
	}
	return false
}

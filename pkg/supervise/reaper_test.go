package supervise_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/flyproxy/flyproxy/pkg/supervise"
)

// A child that outlives its parent comes to the reaper, as it does to PID 1, and is waited for. newReaper checks that none is left.
func TestOrphansAreWaitedFor(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	var l logs
	r := newReaper(t, slog.New(slog.NewTextHandler(&l, &slog.HandlerOptions{Level: slog.LevelDebug})))
	dir := t.TempDir()
	// Of a session of its own, it is not killed with the app's group.
	p, err := r.Start(shell(dir, `setsid sh -c 'echo $$ >orphan; while [ ! -e go ]; do sleep 0.01; done' & while [ ! -s orphan ]; do sleep 0.01; done`))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	pid, err := os.ReadFile(filepath.Join(dir, "orphan"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); err != nil {
		t.Fatal("the orphan has ended with its parent")
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the orphan is waited for", func() bool { return strings.Contains(l.String(), "pid="+strings.TrimSpace(string(pid))) })
}

// What an app leaves in its process group would hold its port when it is started again.
func TestRestOfTheGroupEndsWithTheApp(t *testing.T) {
	r := newReaper(t, slog.New(slog.DiscardHandler))
	dir := t.TempDir()
	p, err := r.Start(shell(dir, `sh -c 'echo $$ >child; while :; do sleep 0.01; done' & while [ ! -s child ]; do sleep 0.01; done; exit 2`))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if p.Exit() != (supervise.Exit{Code: 2}) {
		t.Errorf("%+v", p.Exit())
	}
	gone(t, filepath.Join(dir, "child"))
	p.Signal(syscall.SIGTERM) // to nobody
	p.KillGroup()
}

func TestManyAtOnce(t *testing.T) {
	r := newReaper(t, slog.New(slog.DiscardHandler))
	var all []*supervise.Process
	for range 50 {
		p, err := r.Start(supervise.Command{Path: "/bin/true", Args: []string{"true"}})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	for _, p := range all {
		<-p.Done()
		if p.Exit().Code != 0 {
			t.Errorf("%+v", p.Exit())
		}
	}
}

func TestLookAndStartErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name string
		want error
		says string
	}{
		{"flyproxy-has-no-such-app", supervise.ErrNotFound, "in no folder of PATH"},
		{filepath.Join(dir, "none"), supervise.ErrNotFound, "there is no program"},
		{file("plain", "text", 0o600), supervise.ErrNotExecutable, "chmod +x"},
		{dir, supervise.ErrNotExecutable, "is it a program?"},
	} {
		if _, err := supervise.Look(tt.name); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("look %s: %v", tt.name, err)
		}
	}
	if path, err := supervise.Look("sh"); err != nil || !strings.HasSuffix(path, "/sh") {
		t.Errorf("%s, %v", path, err)
	}
	r := newReaper(t, slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		path string
		want error
		says string
	}{
		{file("no-interpreter", "#!/nowhere/node\n", 0o700), supervise.ErrNotFound, "interpreter"},
		{file("no-program", "neither\n", 0o700), supervise.ErrNotExecutable, "neither a program"},
		{filepath.Join(dir, "none"), supervise.ErrNotFound, "none"},
		{dir, supervise.ErrNotExecutable, dir},
	} {
		if _, err := r.Start(supervise.Command{Path: tt.path, Args: []string{"x"}}); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("start %s: %v", tt.path, err)
		}
	}
}

package supervise_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A child that outlives its parent comes to the reaper, as it does to PID 1, and is waited for. newReaper checks that none is left.
func TestOrphansAreWaitedFor(t *testing.T) {
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

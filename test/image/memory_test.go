package image_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/test/internal/proc"
)

const (
	// machineMemory is what Fly's smallest Machine has.
	machineMemory = 256 << 20
	idleStreams   = 10_000
)

// A Machine of 256 MB holds 10,000 idle streams through its sidecar, with the app that answers them, supervisord and all in it. Where
// no memory cgroup can be made, the limits of each process do alone.
func TestMemoryOfASmallMachine(t *testing.T) {
	t.Parallel()
	images(t, "app-amd64")
	client := filepath.Join(t.TempDir(), "idle")
	if out, err := exec.Command("go", "build", "-o", client, "./idle").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if group, err := newCgroup(t, machineMemory); err != nil {
		t.Logf("no memory cgroup of our own can be made here (%v), so the limits of each process do alone", err)
	} else {
		t.Run("cgroup", func(t *testing.T) { holdsIdleStreams(t, client, group) })
	}
	t.Run("limits of each process", func(t *testing.T) { holdsIdleStreams(t, client, rlimit(machineMemory)) })
}

// limit bounds a Machine's memory.
type limit interface {
	fmt.Stringer
	// bind is called before the Machine is started.
	bind(m *machine)
	// usage is what the Machine has now, peak the most that it ever had.
	usage(m *machine) int64
	peak(m *machine) int64
	// check is called at the end and says whether the limit was in force, and whether it was hit.
	check(m *machine)
}

func holdsIdleStreams(t *testing.T, client string, l limit) {
	c := newCluster(t, 2)
	m := c.all[1] // its app is reached directly
	l.bind(m)
	m.start()
	defer saidMemory(t, m)
	see(t, 1, m)
	sidecar, app := m.sidecar(), m.pid("app")
	idle := l.usage(m)

	began := time.Now()
	say, hear := startIdle(t, m, client)
	hear("open")
	opened := time.Since(began)
	held := l.usage(m)
	of := map[string]int64{"the sidecar": resident(t, sidecar), "the app": resident(t, app), "supervisord": resident(t, m.Pid())}
	say()
	hear("answered")
	peak := l.peak(m)
	t.Logf("%v: %d streams open after %v; in the Machine before %s, with them %s, at most %s, of %s", l, idleStreams,
		opened.Round(time.Millisecond), mb(idle), mb(held), mb(peak), mb(machineMemory))
	for what, bytes := range of {
		t.Logf("resident memory of %s: %s", what, mb(bytes))
	}
	if peak >= machineMemory {
		t.Errorf("the Machine had %s", mb(peak))
	}
	if now := m.sidecar(); now != sidecar {
		t.Errorf("the sidecar's process was %d and is %d", sidecar, now)
	}
	if now := m.pid("app"); now != app {
		t.Errorf("the app's process was %d and is %d", app, now)
	}
	l.check(m)
	if code, _ := m.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// saidMemory reports what a process says when it can have no more memory; a crash prints far more, and of a failed test's output only
// the end is shown.
func saidMemory(t *testing.T, m *machine) {
	t.Helper()
	for line := range strings.Lines(m.Output()) {
		if strings.Contains(line, "out of memory") || strings.Contains(line, "cannot allocate memory") || strings.Contains(line, "MemoryError") {
			t.Errorf("the limit was hit: %s", line)
		}
	}
}

func mb(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/(1<<20)) }

// startIdle runs the client of ./idle in the Machine's network, but outside of its memory. Hear awaits a word of it, say lets it go on.
func startIdle(t *testing.T, m *machine, client string) (say func(), hear func(word string)) {
	t.Helper()
	cmd := exec.Command("ip", "netns", "exec", m.NS, client, "127.0.0.1:50052", strconv.Itoa(idleStreams))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := proc.StartCommand(t, "idle", cmd)
	return func() { _ = in.Close() }, func(word string) {
		t.Helper()
		proc.Eventually(t, "the client says "+word, func() bool {
			select {
			case <-p.Done():
				if !strings.Contains(p.Output(), word) {
					t.Fatalf("the client has ended: %s", p.Output())
				}
			default:
			}
			return strings.Contains(p.Output(), word)
		})
	}
}

// resident reads a process' resident memory.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	kb, err := field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// field reads the number after a word at the beginning of a line.
func field(path, word string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == word {
			return strconv.ParseInt(words[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, word)
}

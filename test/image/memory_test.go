package image_test

import (
	"bufio"
	"fmt"
	"io"
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

// A Machine of 256 MB holds 10,000 idle streams through its sidecar, with the app that answers them, supervisord and all in it.
func TestMemoryOfASmallMachine(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	m := c.all[1] // its app is reached directly
	group := newCgroup(t, machineMemory)
	m.cgroup = group.dir
	m.start()
	see(t, 1, m)
	idle := group.usage(t)

	client := filepath.Join(t.TempDir(), "idle")
	if out, err := exec.Command("go", "build", "-o", client, "./idle").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	began := time.Now()
	say, hear := startIdle(t, m, client)
	hear("open")
	opened := time.Since(began)
	held := group.usage(t)
	of := map[string]int64{"the sidecar": resident(t, m.sidecar()), "the app": resident(t, m.pid("app")), "supervisord": resident(t, m.Pid())}
	say()
	hear("answered")
	t.Logf("%d streams open after %v; in the Machine before %s, with them %s, at most %s, of %s", idleStreams, opened.Round(time.Millisecond),
		mb(idle), mb(held), mb(group.peak(t)), mb(machineMemory))
	for what, bytes := range of {
		t.Logf("resident memory of %s: %s", what, mb(bytes))
	}
	if group.peak(t) >= machineMemory {
		t.Error("the limit was hit")
	}
	if n := group.kills(t); n > 0 {
		t.Errorf("%d processes were killed for want of memory", n)
	}
	if code, _ := m.stop(); code != 0 {
		t.Errorf("exit code %d", code)
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
	return field(t, fmt.Sprintf("/proc/%d/status", pid), "VmRSS:") << 10
}

// field reads the number after a word at the beginning of a line.
func field(t *testing.T, path, word string) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == word {
			n, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %s", path, word)
	return 0
}

// cgroup bounds the memory of what is in it, by version 1 or 2 of the kernel's interface.
type cgroup struct {
	dir string
	v2  bool
}

func newCgroup(t *testing.T, limit int64) *cgroup {
	t.Helper()
	g := &cgroup{dir: "/sys/fs/cgroup/memory"}
	files := map[string]int64{"memory.limit_in_bytes": limit}
	if controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		g.v2, g.dir = true, "/sys/fs/cgroup"
		files = map[string]int64{"memory.max": limit, "memory.swap.max": 0}
		if strings.Contains(string(controllers), "memory") { // else the next step fails
			_ = os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory"), 0)
		}
	}
	g.dir = filepath.Join(g.dir, fmt.Sprintf("flyproxy-test-%d", os.Getpid()))
	err := os.Mkdir(g.dir, 0o755)
	if err == nil {
		t.Cleanup(func() {
			// What was in it has been killed, and goes in its own time.
			proc.Eventually(t, "the memory cgroup is empty", func() bool { return os.Remove(g.dir) == nil })
		})
	}
	for file, value := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.FormatInt(value, 10)), 0)
		}
	}
	proc.Need(t, fmt.Sprintf("a memory cgroup of our own (%v)", err), err == nil)
	return g
}

func (g *cgroup) read(t *testing.T, v1, v2 string) int64 {
	t.Helper()
	file := v1
	if g.v2 {
		file = v2
	}
	f, err := os.Open(filepath.Join(g.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (g *cgroup) usage(t *testing.T) int64 {
	return g.read(t, "memory.usage_in_bytes", "memory.current")
}
func (g *cgroup) peak(t *testing.T) int64 {
	return g.read(t, "memory.max_usage_in_bytes", "memory.peak")
}

// kills counts the processes that the kernel has killed for want of memory.
func (g *cgroup) kills(t *testing.T) int64 {
	t.Helper()
	if g.v2 {
		return field(t, filepath.Join(g.dir, "memory.events"), "oom_kill")
	}
	return field(t, filepath.Join(g.dir, "memory.oom_control"), "oom_kill")
}

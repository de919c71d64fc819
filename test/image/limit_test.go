package image_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// cgroup bounds the memory of what is in it, by version 1 or 2 of the kernel's interface.
type cgroup struct {
	dir string
	v2  bool
}

// newCgroup makes one. It fails where the kernel, or what this runs in, allows none, and where it cannot tell what is needed.
func newCgroup(t *testing.T, limit int64) (*cgroup, error) {
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
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		// What was in it has been killed, and goes in its own time.
		proc.Eventually(t, "the memory cgroup is empty", func() bool { return os.Remove(g.dir) == nil })
	})
	var errs []error
	for file, value := range files {
		errs = append(errs, os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.FormatInt(value, 10)), 0))
	}
	for _, read := range []func() (int64, error){g.now, g.most, g.kills} {
		_, err := read()
		errs = append(errs, err)
	}
	errs = append(errs, exec.Command("sh", "-c", `echo 0 >"$1/cgroup.procs"`, "sh", g.dir).Run()) // as the Machine joins it
	return g, errors.Join(errs...)
}

func (g *cgroup) String() string { return "a memory cgroup" }

func (g *cgroup) bind(m *machine) { m.cgroup = g.dir }

func (g *cgroup) usage(m *machine) int64 { return must(m, g.now) }
func (g *cgroup) peak(m *machine) int64  { return must(m, g.most) }

func (g *cgroup) check(m *machine) {
	m.t.Helper()
	if n := must(m, g.kills); n > 0 {
		m.t.Errorf("%d processes were killed for want of memory", n)
	}
}

func must(m *machine, read func() (int64, error)) int64 {
	m.t.Helper()
	n, err := read()
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

func (g *cgroup) now() (int64, error)  { return g.read("memory.usage_in_bytes", "memory.current") }
func (g *cgroup) most() (int64, error) { return g.read("memory.max_usage_in_bytes", "memory.peak") }

// kills counts the processes that the kernel has killed for want of memory.
func (g *cgroup) kills() (int64, error) {
	if g.v2 {
		return field(filepath.Join(g.dir, "memory.events"), "oom_kill")
	}
	return field(filepath.Join(g.dir, "memory.oom_control"), "oom_kill")
}

func (g *cgroup) read(v1, v2 string) (int64, error) {
	file := v1
	if g.v2 {
		file = v2
	}
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// rlimit bounds the private writable memory of each process by RLIMIT_DATA, which, unlike RLIMIT_AS, leaves out what Go only reserves. All
// processes together it does not bound: for them, the most that each has ever had in memory is added up, files that it maps and all.
type rlimit int64

func (r rlimit) String() string { return "RLIMIT_DATA for each process" }

func (r rlimit) bind(m *machine) { m.dataLimit = int64(r) }

func (r rlimit) usage(m *machine) int64 { return sum(m, "VmRSS:") }
func (r rlimit) peak(m *machine) int64  { return sum(m, "VmHWM:") }

// sum adds up a line of all of the Machine's processes, in bytes.
func sum(m *machine, line string) (bytes int64) {
	m.t.Helper()
	for _, pid := range append(children(m.Pid()), m.Pid()) {
		bytes += must(m, func() (int64, error) { return field(fmt.Sprintf("/proc/%d/status", pid), line) }) << 10
	}
	return bytes
}

func (r rlimit) check(m *machine) {
	m.t.Helper()
	for what, pid := range map[string]int{"the sidecar": m.sidecar(), "the app": m.pid("app"), "supervisord": m.Pid()} {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		_, after, _ := strings.Cut(string(limits), "Max data size")
		if in := strings.Fields(after); err != nil || len(in) == 0 || in[0] != strconv.FormatInt(int64(r), 10) {
			m.t.Errorf("%s is not bound to %d bytes: %v\n%s", what, r, err, limits)
		}
		m.t.Logf("private writable memory of %s: %s", what,
			mb(must(m, func() (int64, error) { return field(fmt.Sprintf("/proc/%d/status", pid), "VmData:") })<<10))
	}
}

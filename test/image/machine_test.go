package image_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/test/internal/netns"
	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// killTimeout is kill_timeout in fly.toml: what still runs then is killed.
const killTimeout = 30 * time.Second

// cluster is an app's Machines and their Redis, each in a network namespace of its own.
type cluster struct {
	t     *testing.T
	all   []*machine
	redis string
}

// machine stands for a Fly Machine: the root of the image, with a network, processes and mounts that nobody else sees, and the environment
// that Fly gives. It is started anew with the same id and files.
type machine struct {
	netns.Machine
	t   *testing.T
	id  string
	dir string // upper is what the Machine has written, root where all is seen; in the Machine's own mounts only
	env []string
	cmd []string
	// image is what it runs.
	image *image
	// cgroup is a memory cgroup's folder that the Machine is in, or empty.
	cgroup string
	// dataLimit is the RLIMIT_DATA of its processes in bytes, or 0 for none.
	dataLimit int64

	*proc.Process // the newest start
}

// newCluster makes Machines of the image app, of which none is started. Each second one's app is bound to IPv6 and so is reached directly;
// the others' are bound as most apps are, to 0.0.0.0, and are reached through their sidecars.
func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	return newClusterOf(t, images(t, "app-amd64"), n)
}

func newClusterOf(t *testing.T, of *image, n int) *cluster {
	t.Helper()
	_, spaces := netns.Routed(t, n+1)
	last := spaces[n]
	proc.Start(t, "redis", nil, "ip", "netns", "exec", last.NS, "redis-server", "--bind", last.Addr, "--port", "6379",
		"--protected-mode", "no", "--save", "")
	c := &cluster{t: t, redis: "redis://[" + last.Addr + "]:6379"}
	for i, space := range spaces[:n] {
		bind := "0.0.0.0"
		if i%2 == 1 {
			bind = "::"
		}
		m := &machine{Machine: space, t: t, id: fmt.Sprintf("machine-%d", i), image: of, cmd: of.cmd}
		var err error
		if m.dir, err = os.MkdirTemp(built.dir, "machine-"); err != nil { // a test's own bears its name, and a mount's options take no comma
			t.Fatal(err)
		}
		m.env = append(append(m.env, of.env...),
			"HOME=/root", "FLY_APP_NAME=battle", "FLY_MACHINE_ID="+m.id, "FLY_REGION=ams", "FLY_PRIVATE_IP="+m.Addr, "FLY_VM_MEMORY_MB=256",
			"REDIS_URL="+c.redis, "GRPC_BIND_ADDRESS="+bind)
		for _, sub := range []string{"upper/proc", "upper/dev", "work", "root"} {
			if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if !built.overlay {
			if out, err := exec.Command("cp", "-a", of.root+"/.", m.dir+"/upper").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		m.put("/etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n"+m.Addr+" fly-local-6pn\n")
		c.all = append(c.all, m)
	}
	return c
}

// put writes a file into a Machine that is not running.
func (m *machine) put(path string, mode os.FileMode, content string) {
	m.t.Helper()
	at := filepath.Join(m.dir, "upper", path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), mode), os.Chmod(at, mode)); err != nil {
		m.t.Fatal(err)
	}
}

// boot runs in the Machine's own mount and process namespaces, of which nothing is left when its first process ends. That is the
// entry point itself: every exec keeps the process.
const boot = `set -e
path=$PATH # the image's
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount --make-rprivate /
if [ -n "$CGROUP" ]; then echo 0 >"$CGROUP/cgroup.procs"; fi
if [ "$DATA_LIMIT" != 0 ]; then ulimit -d "$((DATA_LIMIT / 1024))"; fi
if [ -n "$LOWER" ]; then mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$DIR/upper,workdir=$DIR/work" "$DIR/root"
else mount --bind "$DIR/upper" "$DIR/root"; fi
mount -t proc proc "$DIR/root/proc"
mount --rbind /dev "$DIR/root/dev"
chroot=$(command -v chroot)
PATH=$path
exec "$chroot" ${RUN_AS:+--userspec="$RUN_AS"} "$DIR/root" "$@"`

// start starts the Machine with its entry point.
func (m *machine) start() {
	m.t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", boot, "boot"}, m.cmd...)...)
	cmd.Env = append(m.env, "DIR="+m.dir, "CGROUP="+m.cgroup, "RUN_AS="+m.image.user, fmt.Sprint("DATA_LIMIT=", m.dataLimit))
	if built.overlay {
		cmd.Env = append(cmd.Env, "LOWER="+m.image.root)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	err := netns.Within(m.NS, func() error {
		m.Process = proc.StartCommand(m.t, m.id, cmd)
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// stop does as Fly does, and gives the exit code and how long it took.
func (m *machine) stop() (code int, took time.Duration) {
	m.t.Helper()
	began := time.Now()
	m.Signal(syscall.SIGTERM)
	code = m.Exit(killTimeout)
	return code, time.Since(began)
}

// pid gives the process id, as the host sees it, of the Machine's process with a name; 0 if there is none.
func (m *machine) pid(name string) int {
	for _, child := range children(m.Pid()) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child))
		if err == nil && strings.TrimSpace(string(comm)) == name {
			return child
		}
	}
	return 0
}

// sidecar gives the process id of `flyproxy serve`; 0 if there is none. `flyproxy withdraw` has the same name.
func (m *machine) sidecar() int {
	for _, child := range children(m.Pid()) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
		if err == nil && strings.HasSuffix(string(line), "flyproxy\x00serve\x00") {
			return child
		}
	}
	return 0
}

// children are listed by the thread that has started them.
func children(pid int) (all []int) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, of := range threads {
		b, _ := os.ReadFile(of)
		for _, f := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(f); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// kill sends SIGKILL to one of the Machine's processes.
func (m *machine) kill(pid int) {
	m.t.Helper()
	m.send(pid, syscall.SIGKILL)
}

// send sends a signal to one of the Machine's processes.
func (m *machine) send(pid int, s syscall.Signal) {
	m.t.Helper()
	if pid == 0 {
		m.t.Fatalf("%s: the process for %v is not there", m.id, s)
	}
	if err := syscall.Kill(pid, s); err != nil {
		m.t.Fatal(err)
	}
}

// get asks the Machine's sidecar for a page of its admin listener; code is 0 while there is no answer.
func (m *machine) get(path string) (code int, body []byte) {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
		return netns.Dial(m.NS, address, proc.Patience)
	}}
	res, err := (&http.Client{Transport: tr, Timeout: proc.Patience}).Get("http://127.0.0.1:9052" + path)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(res.Body); err != nil {
		return 0, nil
	}
	return res.StatusCode, body
}

// status is what the Machine's sidecar says of the cluster.
func (m *machine) status() (st admin.Status, ok bool) {
	_, body := m.get(admin.PathStatus)
	return st, json.Unmarshal(body, &st) == nil
}

// serving are the ids that the Machine's sidecar sees as serving.
func (m *machine) serving() map[string]bool {
	all := make(map[string]bool)
	st, _ := m.status()
	for _, in := range st.Instances {
		if in.State == "serving" && !in.Held {
			all[in.ID] = true
		}
	}
	return all
}

// see waits until each of the Machines given sees so many serve.
func see(t *testing.T, n int, by ...*machine) time.Duration {
	t.Helper()
	began := time.Now()
	for _, m := range by {
		proc.Eventually(t, fmt.Sprintf("%s sees %d serve", m.id, n), func() bool { return len(m.serving()) == n })
	}
	return time.Since(began)
}

package image_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// TestRun is about Machines of the template whose entry point is `flyproxy run`.
func TestRun(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	well, other, odd := c.all[0], c.all[1], c.all[2]
	for _, m := range []*machine{well, other} {
		m.cmd = []string{"flyproxy", "run", "--", "app"}
		m.start()
	}
	see(t, 2, well, other)
	t.Run("stopped while calls run", func(t *testing.T) {
		stopUnderStreams(t, well, other)
		inOrder(t, well.Output(), "INFO serving grpc=", `"msg":"deregistered"`, "INFO stopping within", "INFO ended", `"msg":"draining`)
	})
	for _, end := range []struct {
		name string
		cmd  []string
		code int
		said string
	}{
		{"the Machine ends with the app's code", []string{"sh", "-c", "echo as the app says; exit 7"}, 7, "as the app says"},
		{"with 128 and the signal that ended it", []string{"sh", "-c", "kill -KILL $$"}, 128 + int(syscall.SIGKILL), ""},
		{"with 127 if there is no such app", []string{"no-such-app"}, 127, "no-such-app"},
	} {
		t.Run(end.name, func(t *testing.T) {
			odd.cmd = append([]string{"flyproxy", "run", "--"}, end.cmd...)
			odd.start()
			if code := odd.Exit(proc.Patience); code != end.code || !strings.Contains(odd.Output(), end.said) {
				t.Errorf("exit code %d, want %d:\n%s", code, end.code, odd.Output())
			}
		})
	}
}

// The image of the binary alone serves as it comes: by its own command, and by its own user, who can make the control socket.
func TestImageOfTheBinaryServes(t *testing.T) {
	t.Parallel()
	c := newClusterOf(t, images(t, "flyproxy-amd64"), 1)
	m := c.all[0]
	m.start()
	proc.Eventually(t, "it is ready", func() bool { code, _ := m.get("/ready"); return code == http.StatusOK })
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.Pid()))
	if err != nil || !strings.Contains(string(status), "Uid:\t65532\t65532\t65532\t65532") {
		t.Errorf("it does not run as 65532: %v\n%s", err, status)
	}
	if info, err := os.Stat(m.dir + "/upper/run/flyproxy.sock"); err != nil || info.Mode().Type() != os.ModeSocket {
		t.Errorf("no control socket: %v %v", info, err)
	}
	if code, _ := m.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

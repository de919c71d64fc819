package e2e_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// As supervisord stops things: the withdraw program first, then the app, then the sidecar. Calls that are open go on throughout.
func TestWithdrawProgramMakesAStopOrderly(t *testing.T) {
	redis := "REDIS_URL=redis://" + redistest.Start(t, redistest.Config{}).Addr()
	socket := "FLYPROXY_ADMIN_SOCKET=unix://" + filepath.Join(t.TempDir(), "control.sock")
	_, port0 := startApp(t, "m0", "ams")
	_, port1 := startApp(t, "m1", "ams")
	s0, s1 := startSidecar(t, "m0", "ams", port0, redis, socket), startSidecar(t, "m1", "ams", port1, redis)
	sees(t, 2, s0, s1)
	w := start(t, "withdraw", []string{"FLYPROXY_SERVICE=battle", redis, socket}, flyproxy, "withdraw")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	say, hangUp := chat(t, ctx, s1) // on m0: a sidecar's own app comes last
	say("before")
	l := startLoad(t, 2*time.Millisecond, s0, s1)
	// It must wait to be told: nothing may happen before.
	eventually(t, "some calls", func() bool { return l.calls.Load() > 100 })
	if n := s1.serving(); n != 2 {
		t.Fatalf("%d serving before it was told to end", n)
	}
	w.signal(syscall.SIGTERM)
	if code := w.exit(patience); code != 0 || !strings.Contains(w.output(), "withdrawn") {
		t.Errorf("exit code %d", code)
	}
	if n := s1.serving(); n != 1 {
		t.Errorf("%d serving when it says that peers know", n)
	}
	say("after")
	hangUp()
	readySays(t, s0, 200, true, "withdrawn before a stop")
	// supervisord may start it anew, alone: the app is to be registered again then.
	start(t, "withdraw again", []string{"FLYPROXY_SERVICE=battle", redis, socket}, flyproxy, "withdraw")
	sees(t, 2, s0, s1)
	for _, flag := range []string{"--now", "--undo"} {
		p := start(t, flag, []string{"FLYPROXY_SERVICE=battle", redis, socket}, flyproxy, "withdraw", flag)
		if code := p.Exit(patience); code != 0 {
			t.Errorf("%s: exit code %d", flag, code)
		}
	}
	sees(t, 2, s0, s1)
	t.Log(l.stop())
}

// The app is started when the sidecar answers, not before, and is the process that supervisord knows.
func TestWaitBecomesTheApp(t *testing.T) {
	redis := "REDIS_URL=redis://" + redistest.Start(t, redistest.Config{}).Addr()
	appPort, port := freePort(t), freePort(t)
	listen := fmt.Sprintf("FLYPROXY_LISTEN=localhost:%d", port)
	w := start(t, "wait", []string{"FLYPROXY_SERVICE=battle", redis, listen},
		flyproxy, "wait", "--", testApp(), "serve", fmt.Sprintf("127.0.0.1:%d", appPort), "m0", "ams")
	// Something that accepts but does not answer is no sidecar yet.
	stranger, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := stranger.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", appPort)); err == nil {
		c.Close()
		t.Error("the app was started before the sidecar")
	}
	_ = conn.Close()
	_ = stranger.Close()
	s := startSidecar(t, "m0", "ams", appPort, redis, listen)
	sees(t, 1, s)
	w.signal(syscall.SIGTERM) // to the process that was started, which is the app by now
	if code := w.exit(patience); code != 0 || !strings.Contains(w.output(), "app: ended in good order") {
		t.Errorf("exit code %d", code)
	}
}

func TestWaitGivesUp(t *testing.T) {
	w := start(t, "wait", []string{"FLYPROXY_SERVICE=battle", "REDIS_URL=redis://127.0.0.1:1", fmt.Sprintf("FLYPROXY_LISTEN=localhost:%d", freePort(t))},
		flyproxy, "wait", "--timeout", "100ms", "--", "true")
	if code := w.exit(patience); code != 1 || !strings.Contains(w.output(), "is flyproxy running") {
		t.Errorf("exit code %d", code)
	}
}

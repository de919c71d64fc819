package image_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// TestSupervisord is about what goes wrong in a Machine with the image's own supervisord and supervisord.conf. Some of it takes its time,
// so that begins first and is looked at last.
func TestSupervisord(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 5)
	well, other, broken, misconfigured, deaf := c.all[0], c.all[1], c.all[2], c.all[3], c.all[4]
	broken.put("/usr/local/bin/app", 0o755, "#!/bin/sh\necho 'the app cannot work like this'\nexit 3\n")
	misconfigured.env = append(misconfigured.env, "FLYPROXY_ROUTING_POLICY=favourite")
	deaf.put("/usr/local/bin/app", 0o755, "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
	began := time.Now()
	for _, m := range c.all {
		m.start()
	}
	see(t, 2, well, other, deaf)
	deafStopped := stopDeaf(t, deaf, other)
	// Before that, a program that ends counts as one that does not start, which is another rule.
	for _, program := range []string{"flyproxy", "app"} {
		proc.Eventually(t, program+" has run for its startsecs", func() bool {
			return strings.Contains(well.Output(), "success: "+program+" entered RUNNING state")
		})
	}

	t.Run("the sidecar is killed", func(t *testing.T) { sidecarKilled(t, well, other) })
	t.Run("the app is killed", func(t *testing.T) { appKilled(t, well, other) })
	t.Run("stopped while calls run", func(t *testing.T) { stoppedWhileCallsRun(t, well, other) })
	t.Run("an app that does not start ends the Machine", func(t *testing.T) {
		endsFor(t, broken, "processname:app", "the app cannot work like this")
		t.Logf("the app that exits at once: within %v", time.Since(began).Round(time.Millisecond))
		if n := strings.Count(broken.Output(), "the app cannot work like this"); n != 4 {
			t.Errorf("the app was tried %d times, want startretries and one", n)
		}
	})
	t.Run("a wrong configuration ends the Machine", func(t *testing.T) {
		endsFor(t, misconfigured, "processname:", "FLYPROXY_ROUTING_POLICY")
	})
	t.Run("an app that ignores SIGTERM is killed in time", func(t *testing.T) { deafStopped(t) })
}

// endsFor awaits that the Machine ends by itself, having said why.
func endsFor(t *testing.T, m *machine, reasons ...string) {
	t.Helper()
	if code := m.Exit(proc.Patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, reason := range append(reasons, "does not start, so the Machine ends") {
		if !strings.Contains(m.Output(), reason) {
			t.Errorf("nothing of %q is said:\n%s", reason, m.Output())
		}
	}
}

// sidecarKilled: the next one takes over, the app keeps running.
func sidecarKilled(t *testing.T, m, from *machine) {
	app, old := m.pid("app"), m.sidecar()
	began := time.Now()
	m.kill(old)
	proc.Eventually(t, "a new sidecar runs", func() bool { pid := m.sidecar(); return pid != 0 && pid != old })
	cc := from.dial(t)
	proc.Eventually(t, "the app is registered by the new sidecar and answers", func() bool {
		st, ok := m.status()
		by, err := join(cc, m.id)
		return ok && len(st.Self.Apps) == 1 && st.Self.Apps[0].Registration == "registered" && err == nil && by == m.id
	})
	t.Logf("reachable through a new sidecar %v after", time.Since(began).Round(time.Millisecond))
	if now := m.pid("app"); now != app || app == 0 {
		t.Errorf("the app's process was %d and is %d", app, now)
	}
}

// appKilled: it is withdrawn until the next one answers, the sidecar keeps running.
func appKilled(t *testing.T, m, from *machine) {
	old, sidecar := m.pid("app"), m.sidecar()
	before := len(m.Output())
	began := time.Now()
	m.kill(old)
	// The next app may be there in a moment, so this is read from what the sidecar says.
	said := func(word string) bool { return strings.Contains(m.Output()[before:], word) }
	gone := proc.Eventually(t, "it is withdrawn", func() bool { return said(`"msg":"deregistered"`) })
	proc.Eventually(t, "it is registered again", func() bool { return said(`"msg":"registered"`) })
	proc.Eventually(t, "others see it again", func() bool { return from.serving()[m.id] })
	t.Logf("withdrawn after %v, serving again after %v", gone.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	if by, err := join(from.dial(t), m.id); err != nil || by != m.id {
		t.Errorf("a call to it: %q %v", by, err)
	}
	if now := m.pid("app"); now == old || now == 0 {
		t.Errorf("the app's process was %d and is %d", old, now)
	}
	if now := m.sidecar(); now != sidecar {
		t.Errorf("the sidecar's process was %d and is %d", sidecar, now)
	}
}

// stoppedWhileCallsRun: streams into the Machine and out of it end well, and everything stops in its order and by itself.
func stoppedWhileCallsRun(t *testing.T, m, other *machine) {
	stopUnderStreams(t, m, other)
	inOrder(t, m.Output(), "INFO serving grpc=", // the app's line
		"withdrawn: peers have had time", "stopped: withdraw (exit status 0)", "INFO stopping within", "stopped: app (exit status 0)",
		`"msg":"draining`, "stopped: flyproxy (exit status 0)")
}

// stopUnderStreams stops a Machine while a stream from another one's app is open there, and one of its own app to the other. They last
// two seconds, longer than it takes until the app is told to stop.
func stopUnderStreams(t *testing.T, m, other *machine) {
	t.Helper()
	begun, ended := make(chan string, 2), make(chan error, 2)
	in, out := other.dial(t), m.dial(t)
	go func() { ended <- talk(in, m.id, 20, func() { begun <- "in" }) }()
	go func() { ended <- talk(out, other.id, 20, func() { begun <- "out" }) }()
	for range 2 {
		select {
		case <-begun:
		case err := <-ended:
			t.Fatalf("a stream did not begin: %v", err)
		}
	}
	code, took := m.stop()
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("a stream that was under way: %v", err)
		}
	}
	t.Logf("stopped in %v", took.Round(time.Millisecond))
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// inOrder checks that the output has these, each after the one before.
func inOrder(t *testing.T, output string, words ...string) {
	t.Helper()
	rest := output
	for _, w := range words {
		_, after, found := strings.Cut(rest, w)
		if !found {
			t.Errorf("%q is not said, or too early:\n%s", w, output)
			return
		}
		rest = after
	}
}

// stopDeaf has a Machine stop whose app ignores SIGTERM, and whose sidecar has a stream that does not end: the longest stop there is.
// The function that is returned checks how that ended.
func stopDeaf(t *testing.T, m, other *machine) func(*testing.T) {
	t.Helper()
	cc := m.dial(t)
	began := make(chan struct{})
	go hold(cc, other.id, func() { close(began) })
	select {
	case <-began:
	case <-time.After(proc.Patience):
		t.Fatal("the stream did not begin")
	}
	proc.Eventually(t, "the app runs", func() bool { return m.pid("app") != 0 })
	since := time.Now()
	m.Signal(syscall.SIGTERM)
	ended := make(chan time.Duration, 1)
	go func() {
		<-m.Done()
		ended <- time.Since(since)
	}()
	return func(t *testing.T) {
		code := m.Exit(proc.Patience)
		took := <-ended
		t.Logf("ended after %v", took.Round(time.Millisecond))
		if took > killTimeout || code != 0 {
			t.Errorf("ended after %v with %d", took, code)
		}
		inOrder(t, m.Output(), "stopped: withdraw (exit status 0)", "killing 'app'", "stopped: app (terminated by SIGKILL)",
			"stopped: flyproxy (exit status 0)")
	}
}

package supervise_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/supervise"
)

func TestEndsWithTheAppsCode(t *testing.T) {
	for _, tt := range []struct {
		script string
		want   supervise.Exit
	}{
		{"exit 0", supervise.Exit{}},
		{"exit 7", supervise.Exit{Code: 7}},
		{"kill -9 $$", supervise.Exit{Code: 137, Signal: syscall.SIGKILL}},
	} {
		t.Run(tt.script, func(t *testing.T) { // a process has one Reaper at a time
			s := supervisedApp(t, tt.script, nil)
			if got := s.end(t); got != tt.want || s.history() != "" {
				t.Errorf("%+v, %s", got, s.history())
			}
		})
	}
}

// The order of a stop: withdrawn, then the signal, then the end.
func TestStopWithdrawsBeforeTheSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			release := make(chan struct{})
			s := supervisedApp(t, `trap 'echo >term; exit 3' TERM; trap 'echo >int; exit 4' INT; trap 'echo >winch' WINCH; echo >up; while :; do sleep 0.01; done`,
				func(s *supervised, cfg *supervise.Config) {
					cfg.Withdraw = func(context.Context) error { s.note("withdraw"); <-release; return errors.New("the registry is away") }
				})
			s.awaitFile(t, "up")
			s.signals <- sig
			await(t, "withdrawing", func() bool { return s.history() == "withdraw" })
			s.signals <- syscall.SIGWINCH // a shell takes pending signals in the order of their numbers, so this one last
			s.awaitFile(t, "winch")
			if written(s.dir, "term") || written(s.dir, "int") {
				t.Error("the app got its signal before it was withdrawn")
			}
			close(release)
			want := map[syscall.Signal]int{syscall.SIGTERM: 3, syscall.SIGINT: 4}[sig]
			if got := s.end(t); got.Code != want {
				t.Errorf("%+v", got)
			}
			if !strings.Contains(s.logs.String(), "the registry is away") {
				t.Error(s.logs.String())
			}
		})
	}
}

func TestAppThatIgnoresItsSignalIsKilledWithItsChildren(t *testing.T) {
	s := supervisedApp(t, `trap '' TERM; sh -c 'trap "" TERM; echo $$ >child; while :; do sleep 0.01; done' & echo >up; wait; wait`,
		func(_ *supervised, cfg *supervise.Config) { cfg.StopTimeout = 50 * time.Millisecond })
	s.awaitFile(t, "up")
	s.awaitFile(t, "child")
	s.signals <- syscall.SIGTERM
	if got := s.end(t); got.Signal != syscall.SIGKILL || got.Code != 137 {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(s.logs.String(), "is killed") || !strings.Contains(s.logs.String(), "run.stop_timeout") {
		t.Error(s.logs.String())
	}
	gone(t, filepath.Join(s.dir, "child"))
}

// gone waits until the process whose id a file has is no more, or only waits to be waited for by another than us.
func gone(t *testing.T, pidFile string) {
	t.Helper()
	await(t, "the child is gone", func() bool {
		pid, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// timeout(1), terminals and runners send a signal to a process and to its group: that is one wish. A later one is another.
func TestSecondSignalKillsAtOnceButNotTheEchoOfTheFirst(t *testing.T) {
	s := supervisedApp(t, `trap '' TERM INT; trap 'echo >usr1' USR1; echo >up; while :; do sleep 0.01; done`, func(s *supervised, cfg *supervise.Config) {
		cfg.Withdraw = func(ctx context.Context) error { s.note("withdraw"); <-ctx.Done(); return ctx.Err() }
	})
	s.awaitFile(t, "up")
	began := time.Now()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1} {
		s.signals <- sig
	}
	s.awaitFile(t, "usr1") // so the three before it were taken, and it lives
	for {
		s.signals <- syscall.SIGINT
		select {
		case <-s.done:
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	if took := time.Since(began); s.exit.Signal != syscall.SIGKILL || took < time.Second {
		t.Errorf("%+v after %v", s.exit, took)
	}
}

// A shell ends on the signal and does not pass it on. What it has started must have it too, and the time to end in good order.
func TestAppUnderAShellEndsInGoodOrder(t *testing.T) {
	s := supervisedApp(t, `sh -c 'trap "sleep 0.1; echo >ended; exit 3" TERM; echo >up; while :; do sleep 0.01; done'; echo after`, nil)
	s.awaitFile(t, "up")
	s.signals <- syscall.SIGTERM
	if got := s.end(t); got.Signal != syscall.SIGTERM {
		t.Errorf("%+v", got)
	}
	if !written(s.dir, "ended") {
		t.Error("what the shell had started was cut off")
	}
	if !strings.Contains(s.logs.String(), "others of its group have not") || strings.Contains(s.logs.String(), "is killed") {
		t.Error(s.logs.String())
	}
}

// A script that passes the signal on and ends must not have its app told twice: some programs cut their calls at the second signal.
func TestAppUnderAShellThatPassesSignalsOnIsToldOnce(t *testing.T) {
	s := supervisedApp(t, `sh -c 'trap "echo x >>terms" TERM; echo >up; while [ ! -s terms ]; do sleep 0.01; done; sleep 0.3; echo >ended' &
		trap "kill -TERM $!; exit 0" TERM; wait`, nil)
	s.awaitFile(t, "up")
	s.signals <- syscall.SIGTERM
	if got := s.end(t); got.Code != 0 {
		t.Errorf("%+v", got)
	}
	terms, err := os.ReadFile(filepath.Join(s.dir, "terms"))
	if err != nil || string(terms) != "x\n" || !written(s.dir, "ended") {
		t.Errorf("told %q, %v", terms, err)
	}
}

// A signal that comes while the rest of an app that crashed is being stopped means all of it: nothing is started again.
func TestSignalWhileTheRestIsStoppedEndsIt(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(map[bool]string{false: "at once", true: "later"}[late], func(t *testing.T) {
			s := supervisedApp(t, `echo x >>runs; sh -c 'trap "echo >told; while [ ! -e go ]; do sleep 0.01; done; exit" TERM; echo >child; while :; do sleep 0.01; done' &
				while [ ! -s child ]; do sleep 0.01; done; exit 3`, func(_ *supervised, cfg *supervise.Config) { cfg.Restart = supervise.RestartAlways })
			s.awaitFile(t, "told")
			if late { // so that it is not taken for an echo of anything
				told := time.Now()
				await(t, "a second has passed", func() bool { return time.Since(told) > 1100*time.Millisecond })
			}
			s.signals <- syscall.SIGTERM
			s.signals <- syscall.SIGTERM // as `timeout` does
			await(t, "taken", func() bool { return len(s.signals) == 0 })
			if err := os.WriteFile(filepath.Join(s.dir, "go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if got := s.end(t); got.Code != 3 {
				t.Errorf("%+v", got)
			}
			runs, err := os.ReadFile(filepath.Join(s.dir, "runs"))
			if err != nil || string(runs) != "x\n" || strings.Contains(s.logs.String(), "killed") {
				t.Errorf("runs %q, %v\n%s", runs, err, s.logs.String())
			}
		})
	}
}

// What an app leaves behind would hold its port when it is started again.
func TestRestOfTheGroupIsStoppedWhenTheAppEndsByItself(t *testing.T) {
	for _, tt := range []struct {
		name, trap string
		timeout    time.Duration
		killed     bool
	}{{"in good order", "echo >ended; exit", patience, false}, {"killed", "", 50 * time.Millisecond, true}} {
		t.Run(tt.name, func(t *testing.T) {
			s := supervisedApp(t, `sh -c 'trap "`+tt.trap+`" TERM; echo $$ >child; while :; do sleep 0.01; done' & while [ ! -s child ]; do sleep 0.01; done; exit 2`,
				func(_ *supervised, cfg *supervise.Config) { cfg.StopTimeout = tt.timeout })
			if got := s.end(t); got.Code != 2 || s.history() != "withdraw" {
				t.Errorf("%+v %s", got, s.history())
			}
			gone(t, filepath.Join(s.dir, "child"))
			if written(s.dir, "ended") == tt.killed || strings.Contains(s.logs.String(), "is killed") != tt.killed {
				t.Error(s.logs.String())
			}
		})
	}
}

func TestOtherSignalsArePassedOn(t *testing.T) {
	s := supervisedApp(t, `trap 'echo >hup' HUP; trap 'echo >usr1' USR1; trap 'echo >quit; exit 5' QUIT; echo >up; while :; do sleep 0.01; done`, nil)
	s.awaitFile(t, "up")
	for _, x := range []struct {
		sig  syscall.Signal
		file string
	}{{syscall.SIGHUP, "hup"}, {syscall.SIGUSR1, "usr1"}, {syscall.SIGQUIT, "quit"}} {
		s.signals <- x.sig
		s.awaitFile(t, x.file)
	}
	if got := s.end(t); got.Code != 5 || s.history() != "" {
		t.Errorf("%+v %s", got, s.history())
	}
}

func TestEndOfTheContextStopsTheApp(t *testing.T) {
	s := supervisedApp(t, `trap 'exit 6' TERM; echo >up; while :; do sleep 0.01; done`, nil)
	s.awaitFile(t, "up")
	s.cancel()
	if got := s.end(t); got.Code != 6 || s.history() != "withdraw" {
		t.Errorf("%+v %s", got, s.history())
	}
}

func TestRestartOnFailure(t *testing.T) {
	s := supervisedApp(t, `echo x >>runs; [ $(wc -l <runs) -ge 4 ] && exit 0; exit 9`, func(_ *supervised, cfg *supervise.Config) {
		cfg.Restart = supervise.RestartOnFailure
	})
	if got := s.end(t); got.Code != 0 {
		t.Errorf("%+v", got)
	}
	if got := s.history(); got != "withdraw restore withdraw restore withdraw restore" {
		t.Errorf("%s", got)
	}
	for _, want := range []string{"next_in=10ms", "next_in=20ms", "next_in=40ms", `how="exit code 9"`} {
		if strings.Count(s.logs.String(), want) < 1 {
			t.Errorf("the log lacks %s", want)
		}
	}
}

func TestBackoffIsBoundedAndBeginsAnewAfterALongRun(t *testing.T) {
	s := supervisedApp(t, `echo x >>runs; n=$(wc -l <runs); [ $n -eq 4 ] && sleep 0.1; [ $n -ge 6 ] && exit 0; exit 1`,
		func(_ *supervised, cfg *supervise.Config) {
			cfg.Restart, cfg.BackoffBase, cfg.BackoffMax = supervise.RestartOnFailure, 20*time.Millisecond, 50*time.Millisecond
		})
	s.end(t)
	var waits []string
	for line := range strings.Lines(s.logs.String()) {
		if _, rest, ok := strings.Cut(line, "next_in="); ok {
			wait, _, _ := strings.Cut(rest, " ")
			waits = append(waits, wait)
		}
	}
	// A busy machine may make a quick run a long one, after which the waits begin anew too: so the last ones are what is sure.
	if got := strings.Join(waits, " "); len(waits) != 5 || waits[3] != "20ms" || strings.Contains(got, "80ms") {
		t.Errorf("waits %s", got)
	}
}

// always means also after exit code 0; told to end while it waits, it does not start the app again.
func TestRestartAlwaysUntilStopped(t *testing.T) {
	s := supervisedApp(t, `echo x >>runs; exit 0`, func(_ *supervised, cfg *supervise.Config) {
		cfg.Restart, cfg.BackoffBase = supervise.RestartAlways, time.Hour
	})
	await(t, "it waits", func() bool { return strings.Contains(s.logs.String(), "next_in=1h") })
	s.signals <- syscall.SIGHUP // nobody is there for it
	s.signals <- syscall.SIGTERM
	if got := s.end(t); got.Code != 0 {
		t.Errorf("%+v", got)
	}
	if runs, _ := os.ReadFile(filepath.Join(s.dir, "runs")); string(runs) != "x\n" {
		t.Errorf("runs %q", runs)
	}
}

// A program that is away for a moment, as during an update in place, is tried again as any other end.
func TestRestartOfAProgramThatIsAway(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	write := func(last string) {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+last+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write("rm " + program + "; exit 1")
	s := supervisedApp(t, "", func(_ *supervised, cfg *supervise.Config) {
		cfg.Command = supervise.Command{Path: program, Args: []string{program}, Env: os.Environ()}
		cfg.Restart = supervise.RestartOnFailure
	})
	await(t, "it fails to start", func() bool { return strings.Contains(s.logs.String(), "could not be started again") })
	other := program + ".new"
	if err := os.WriteFile(other, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, program); err != nil {
		t.Fatal(err)
	}
	if got := s.end(t); got.Code != 0 {
		t.Errorf("%+v", got)
	}
	if !strings.HasSuffix(s.history(), "withdraw restore") || strings.Count(s.history(), "restore") != 1 {
		t.Errorf("%s", s.history())
	}
}

func TestFirstStartThatFailsIsTold(t *testing.T) {
	s := supervisedApp(t, "", func(_ *supervised, cfg *supervise.Config) {
		cfg.Command.Path, cfg.Restart = "/nowhere/app", supervise.RestartAlways
	})
	<-s.done
	if !errors.Is(s.err, supervise.ErrNotFound) || !strings.Contains(s.err.Error(), "/nowhere/app") {
		t.Errorf("%v", s.err)
	}
}

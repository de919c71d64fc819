package supervise_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/supervise"
)

// patience bounds every wait for what must come.
const patience = 20 * time.Second

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}

// logs collects log lines.
type logs struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// shell is a command that runs a script in a folder of its own, so that a script and its test can tell each other by files.
func shell(dir, script string) supervise.Command {
	return supervise.Command{Path: "/bin/sh", Args: []string{"sh", "-c", "cd '" + dir + "'\n" + script}, Env: os.Environ()}
}

// written tells whether a file is there with something in it: a shell makes it before it writes to it.
func written(parts ...string) bool {
	info, err := os.Stat(filepath.Join(parts...))
	return err == nil && info.Size() > 0
}

// newReaper is closed at the end of the test, by when every child must have been waited for.
func newReaper(t *testing.T, log *slog.Logger) *supervise.Reaper {
	t.Helper()
	r := supervise.NewReaper(log)
	t.Cleanup(func() {
		await(t, "no child is left", func() bool {
			_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			return errors.Is(err, syscall.ECHILD)
		})
		r.Close()
	})
	return r
}

// supervised is a Supervisor under test, with what it asked for in order.
type supervised struct {
	dir     string
	signals chan os.Signal
	logs    logs
	exit    supervise.Exit
	err     error
	done    chan struct{} // closed when exit and err are set
	cancel  context.CancelFunc

	mu     sync.Mutex // guards events
	events []string
}

func (s *supervised) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, what)
}

func (s *supervised) history() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.events, " ")
}

// supervisedApp runs a script under a Supervisor. Withdraw and Restore are only noted, unless change sets others.
func supervisedApp(t *testing.T, script string, change func(*supervised, *supervise.Config)) *supervised {
	t.Helper()
	s := &supervised{dir: t.TempDir(), signals: make(chan os.Signal, 4), done: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(&s.logs, nil))
	cfg := supervise.Config{
		Reaper: newReaper(t, log), Command: shell(s.dir, script), StopTimeout: patience,
		BackoffBase: 10 * time.Millisecond, BackoffMax: time.Hour,
		Withdraw: func(context.Context) error { s.note("withdraw"); return nil },
		Restore:  func(context.Context) error { s.note("restore"); return nil },
		Logger:   log,
	}
	if change != nil {
		change(s, &cfg)
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(s.done)
		s.exit, s.err = supervise.New(cfg).Run(ctx, s.signals)
	}()
	t.Cleanup(func() {
		s.cancel()
		<-s.done
		if t.Failed() {
			t.Log(s.logs.String())
		}
	})
	return s
}

func (s *supervised) end(t *testing.T) supervise.Exit {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(patience):
		t.Fatalf("it does not end:\n%s", s.logs.String())
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.exit
}

func (s *supervised) awaitFile(t *testing.T, name string) {
	t.Helper()
	await(t, name+"\n"+s.logs.String(), func() bool { return written(s.dir, name) })
}

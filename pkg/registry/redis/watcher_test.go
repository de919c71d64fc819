package redis_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
)

// watcher is a running Watch and what it said.
type watcher struct {
	t       *testing.T
	changes chan registry.Change
	stop    context.CancelFunc
	ended   chan struct{}
	err     error // set when ended is closed
}

// watch starts a watch and waits for its first Reset.
func (f *fixture) watch() *watcher {
	f.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &watcher{t: f.t, changes: make(chan registry.Change, 10_000), stop: stop, ended: make(chan struct{})}
	go w.run(ctx, f.Store)
	f.t.Cleanup(w.end)
	if c := w.next(); c.Kind != registry.Reset {
		f.t.Fatalf("the first change is %+v", c)
	}
	return w
}

func (w *watcher) run(ctx context.Context, s *redis.Store) {
	defer close(w.ended)
	w.err = s.Watch(ctx, func(c registry.Change) { w.changes <- c })
}

func (w *watcher) end() {
	w.stop()
	select {
	case <-w.ended:
		if !errors.Is(w.err, context.Canceled) {
			w.t.Errorf("watch ended with %v", w.err)
		}
	case <-time.After(patience):
		w.t.Error("watch did not end with its context")
	}
}

func (w *watcher) next() registry.Change {
	w.t.Helper()
	select {
	case c := <-w.changes:
		return c
	case <-time.After(patience):
		w.t.Fatalf("no change within %v", patience)
		return registry.Change{}
	}
}

// silent shows that nothing was said up to now: a marker that is registered comes as the next change.
func (w *watcher) silent(f *fixture) {
	w.t.Helper()
	marker := instance("marker", strconv.FormatInt(time.Now().UnixNano(), 10), "1")
	f.register(marker, true)
	if c := w.next(); c.Kind != registry.Put || len(c.Instances) != 1 || c.Instances[0].ID != marker.ID {
		w.t.Errorf("the watch said %+v where nothing had changed", c)
	}
	if err := f.Deregister(f.t.Context(), marker.Key(), marker.Incarnation); err != nil {
		w.t.Fatal(err)
	}
	if c := w.next(); c.Kind != registry.Remove {
		w.t.Errorf("the watch said %+v where the marker was removed", c)
	}
}

// logBook keeps log lines.
type logBook struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logBook) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

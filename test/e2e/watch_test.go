package e2e_test

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// watch is a WatchInstances call to a sidecar and what it has told.
type watch struct {
	t      *testing.T
	by     *sidecar
	stream pb.Discovery_WatchInstancesClient

	// mu guards held.
	mu   sync.Mutex
	held map[string]bool // of all instances that are there, by id
}

// watchAll watches through each sidecar, from when it returns until end is called. on is told each event that follows the snapshot,
// those of one watch in order. A watch that ends by itself fails the test.
func watchAll(t *testing.T, all []*sidecar, on func(by *sidecar, m *pb.WatchInstancesResponse)) (watches []*watch, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var joined sync.WaitGroup
	end = func() { cancel(); joined.Wait() }
	t.Cleanup(end)
	for _, s := range all {
		stream, err := pb.NewDiscoveryClient(s.dial(t)).WatchInstances(ctx, &pb.WatchInstancesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		w := &watch{t: t, by: s, stream: stream, held: make(map[string]bool)}
		m, err := stream.Recv()
		if err != nil || m.GetSnapshot() == nil {
			t.Fatalf("watch through %s: the first event is %v, %v", s.id, m, err)
		}
		w.take(m.GetSnapshot().GetInstances(), nil)
		watches = append(watches, w)
		joined.Go(func() { w.run(ctx, on) })
	}
	return watches, end
}

func (w *watch) run(ctx context.Context, on func(*sidecar, *pb.WatchInstancesResponse)) {
	for {
		m, err := w.stream.Recv()
		if err != nil {
			if ctx.Err() == nil {
				w.t.Errorf("watch through %s: %v", w.by.id, err)
			}
			return
		}
		w.take(m.GetChanges().GetUpdated(), m.GetChanges().GetRemoved())
		on(w.by, m)
	}
}

func (w *watch) take(updated []*pb.Instance, removed []*pb.InstanceKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range updated {
		w.held[in.GetId()] = in.GetHeld()
	}
	for _, k := range removed {
		delete(w.held, k.GetId())
	}
}

// serving counts the instances that are there and not merely held.
func (w *watch) serving() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, held := range w.held {
		if !held {
			n++
		}
	}
	return n
}

// nobodyLeaves watches through every sidecar that no instance is removed, held or not, until the returned function is called. That
// one first waits until every watch tells of all of them as serving.
func nobodyLeaves(t *testing.T, all []*sidecar) (watched func()) {
	t.Helper()
	watches, end := watchAll(t, all, func(by *sidecar, m *pb.WatchInstancesResponse) {
		for _, k := range m.GetChanges().GetRemoved() {
			t.Errorf("%s removes %s at version %d", by.id, k.GetId(), m.GetVersion())
		}
	})
	return func() {
		t.Helper()
		for _, w := range watches {
			eventually(t, "all instances serve by the watch through "+w.by.id, func() bool { return w.serving() == len(all) })
		}
		end()
	}
}

// What one sidecar registers, all others are told at once. No beat of theirs can be how they find out: the next ones are due long after
// every wait of this test has ended.
func TestRegistrationIsPushedToAll(t *testing.T) { eachEngine(t, registrationIsPushedToAll) }

func registrationIsPushedToAll(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	env := append(times(10*time.Minute, time.Hour), engine, "REDIS_URL=redis://"+redis.Addr())
	all := fleet(t, env...)
	news := map[string]chan time.Duration{
		"added": make(chan time.Duration, len(all)), "removed": make(chan time.Duration, len(all)),
	}
	_, end := watchAll(t, all, func(_ *sidecar, m *pb.WatchInstancesResponse) {
		// The version is Redis' time in µs when it wrote the change, by the clock of this machine.
		took := time.Since(time.UnixMicro(int64(m.GetVersion())))
		for _, in := range m.GetChanges().GetUpdated() {
			if in.GetId() == "late" {
				news["added"] <- took
			}
		}
		for _, k := range m.GetChanges().GetRemoved() {
			if k.GetId() == "late" {
				news["removed"] <- took
			}
		}
	})
	_, port := startApp(t, "late", "ams")
	late := startSidecar(t, "late", "ams", port, env...)
	told := func(what string) {
		t.Helper()
		eventually(t, "all sidecars have told that the new instance is "+what, func() bool { return len(news[what]) == len(all) })
		var slowest time.Duration
		for range all {
			slowest = max(slowest, <-news[what])
		}
		t.Logf("%s: the slowest of %d sidecars told its watcher %v after Redis wrote it", what, len(all), slowest.Round(10*time.Microsecond))
	}
	told("added")
	late.signal(syscall.SIGTERM)
	told("removed")
	if code := late.exit(patience); code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
	end()
}

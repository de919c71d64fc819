package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
)

// load calls through sidecars, steadily, until it is stopped.
type load struct {
	t      testing.TB
	cancel context.CancelFunc
	wg     sync.WaitGroup
	calls  atomic.Int64
	failed atomic.Int64

	// mu guards first and by.
	mu    sync.Mutex
	first []string // the first failures, in words
	by    map[string]int
}

// startLoad makes a call every pause through each sidecar. Each call has 5 s.
func startLoad(t testing.TB, pause time.Duration, through ...*sidecar) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, cancel: cancel, by: make(map[string]int)}
	for _, s := range through {
		client := pb.NewGreeterClient(s.dial(t))
		l.wg.Add(1)
		go l.run(ctx, s.id, client, pause)
	}
	t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) run(ctx context.Context, id string, client pb.GreeterClient, pause time.Duration) {
	defer l.wg.Done()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// The call itself outlives the load's end: what was begun must succeed.
		callCtx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		reply, err := client.Hello(callCtx, &pb.HelloRequest{Name: fmt.Sprint(n)})
		cancel()
		l.calls.Add(1)
		l.mu.Lock()
		if err != nil {
			l.failed.Add(1)
			if len(l.first) < 5 {
				l.first = append(l.first, fmt.Sprintf("%s through %s: %v", time.Now().Format("15:04:05.000"), id, err))
			}
		} else {
			l.by[reply.GetInstance()]++
		}
		l.mu.Unlock()
	}
}

// stop ends the load and gives how many calls were made; failed ones fail the test.
func (l *load) stop() int64 {
	l.t.Helper()
	l.cancel()
	l.wg.Wait()
	if n := l.failed.Swap(0); n > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.t.Errorf("%d of %d calls failed, first: %q", n, l.calls.Load(), l.first)
	}
	return l.calls.Load()
}

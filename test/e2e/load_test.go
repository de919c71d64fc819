package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
)

// load calls through sidecars, steadily, until it is stopped.
type load struct {
	t      testing.TB
	cancel context.CancelFunc
	wg     sync.WaitGroup
	calls  atomic.Int64
	failed atomic.Int64

	// mu guards what follows.
	mu      sync.Mutex
	first   []string // the first failures, in words
	by      map[string]int
	slowest time.Duration
}

// startLoad makes a call every pause through each sidecar.
func startLoad(t testing.TB, pause time.Duration, through ...*sidecar) *load {
	conns := make(map[string]*grpc.ClientConn)
	for i, s := range through {
		conns[fmt.Sprint(s.id, " ", i)] = s.dial(t)
	}
	return startLoadOn(t, pause, conns)
}

// startLoadOn makes a call every pause on each connection.
func startLoadOn(t testing.TB, pause time.Duration, conns map[string]*grpc.ClientConn) *load {
	calls := make(map[string]oneMore)
	for name, cc := range conns {
		client := pb.NewGreeterClient(cc)
		calls[name] = func(ctx context.Context, n int) (string, error) {
			reply, err := client.Hello(ctx, &pb.HelloRequest{Name: fmt.Sprint(n)})
			return reply.GetInstance(), err
		}
	}
	return startLoadOf(t, pause, calls)
}

// oneMore makes the nth call of a load and gives the instance that answered.
type oneMore func(ctx context.Context, n int) (instance string, err error)

// startLoadOf makes each of the calls every pause.
func startLoadOf(t testing.TB, pause time.Duration, calls map[string]oneMore) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, cancel: cancel, by: make(map[string]int)}
	for name, call := range calls {
		l.wg.Add(1)
		go l.run(ctx, name, call, pause)
	}
	t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) run(ctx context.Context, id string, call oneMore, pause time.Duration) {
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
		began := time.Now()
		callCtx, cancel := context.WithTimeout(context.Background(), patience)
		instance, err := call(callCtx, n)
		cancel()
		l.calls.Add(1)
		l.mu.Lock()
		l.slowest = max(l.slowest, time.Since(began))
		if err != nil {
			l.failed.Add(1)
			if len(l.first) < 5 {
				l.first = append(l.first, fmt.Sprintf("%s through %s: %v", time.Now().Format("15:04:05.000"), id, err))
			}
		} else {
			l.by[instance]++
		}
		l.mu.Unlock()
	}
}

// stop ends the load and says how many calls were made and how long the slowest took; failed ones fail the test.
func (l *load) stop() string {
	l.t.Helper()
	l.cancel()
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.failed.Swap(0)
	if n > 0 {
		l.t.Errorf("%d of %d calls failed, first: %q", n, l.calls.Load(), l.first)
	}
	return fmt.Sprintf("%d calls, %d failed, the slowest in %v", l.calls.Load(), n, l.slowest.Round(100*time.Microsecond))
}

// answeredBy is how many calls an instance has answered.
func (l *load) answeredBy(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[id]
}

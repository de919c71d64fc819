package enginetest

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// crowded is a peer that takes one call on each of a few connections, and notes how many it ever had at a time.
func crowded(t testing.TB, e Subject, connections int) (s *Sidecar, cc *grpc.ClientConn, atATime *atomic.Int64) {
	t.Helper()
	atATime = new(atomic.Int64)
	var now atomic.Int64
	b := StartBackend(t, func(b *Backend, st grpc.ServerStream) error {
		n := now.Add(1)
		defer now.Add(-1)
		for m := atATime.Load(); n > m && !atATime.CompareAndSwap(m, n); m = atATime.Load() {
		}
		return Echo(b, st)
	}, grpc.MaxConcurrentStreams(1))
	s = e.Start(t, most(connections))
	s.Use(b)
	return s, Dial(t, s.Address), atATime
}

// Each stream that ends wakes one waiting call and not all of them: the log says what that costs.
func testManyWaitingCalls(t *testing.T, e Subject) {
	const calls = 500
	s, cc, atATime := crowded(t, e, 2)
	_, err := Unary(Context(t), cc, "x")
	Must(t, err)
	began, cpu := time.Now(), processorTime()
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if _, err := Unary(Context(t), cc, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d calls, %d at a time: %v, %v of processor time", calls, atATime.Load(), time.Since(began), processorTime()-cpu)
	if n := atATime.Load(); n > 2 {
		t.Errorf("the peer had %d calls at a time, and took 2", n)
	}
	s.Quiet()
}

func processorTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// Calls wait, are woken and are cancelled all at the same time. A call that is cancelled as it gets room must hand that on: else
// the others wait for ever.
func testNoWakeUpIsLost(t *testing.T, e Subject) {
	const callers, each = 32, 40
	s, cc, _ := crowded(t, e, 2)
	var wg sync.WaitGroup
	var answered, cancelled atomic.Int64
	for range callers {
		wg.Go(func() {
			for range each {
				ctx, cancel := context.WithTimeout(context.Background(), Patience)
				patient := rand.IntN(2) == 0
				if !patient {
					timer := time.AfterFunc(rand.N(2*time.Millisecond), cancel)
					defer timer.Stop()
				}
				_, err := Unary(ctx, cc, "x")
				cancel()
				switch {
				case err == nil:
					answered.Add(1)
				case !patient && status.Code(err) == codes.Canceled:
					cancelled.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d calls were answered, %d cancelled", answered.Load(), cancelled.Load())
	s.Quiet()
}

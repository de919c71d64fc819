package relay_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// unanswering is an address whose SYNs nothing answers: it listens, and its queue is full.
func unanswering(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	enginetest.Must(t, err)
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "listener")
	t.Cleanup(func() { f.Close() })
	enginetest.Must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	enginetest.Must(t, unix.Listen(fd, 0))
	at, err := unix.Getsockname(fd)
	enginetest.Must(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
	for { // until one is not answered
		nc, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { nc.Close() })
	}
}

// A peer whose SYNs are lost costs a call the connect timeout once; it then goes to another peer.
func TestConnectTimeout(t *testing.T) {
	enginetest.CheckLeaks(t)
	const timeout = 400 * time.Millisecond
	b := enginetest.StartBackend(t, enginetest.Echo)
	s := with(relay.Config{}).Start(t, enginetest.Setup{Options: enginetest.Options{ConnectTimeout: timeout}})
	s.Set(enginetest.Instance("well", b.Address))
	cc := enginetest.Dial(t, s.Address)
	_, err := enginetest.Unary(enginetest.Context(t), cc, "x")
	enginetest.Must(t, err)
	s.Set(enginetest.Instance("well", b.Address), enginetest.Instance("gone", unanswering(t)))
	var took []time.Duration
	for range 200 {
		began := time.Now()
		_, err := enginetest.Unary(enginetest.Context(t), cc, "x")
		enginetest.Must(t, err)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	n := len(took)
	t.Logf("the slowest calls took %v", took[n-3:])
	if most := took[n-1]; most > timeout+grace || most < timeout/2 {
		t.Errorf("a call took %v, want one to take the connect timeout of %v, and none longer", most, timeout)
	}
	if second := took[n-2]; second > timeout/2 {
		t.Errorf("a second call took %v: one finds out for all", second)
	}
}

// closer accepts connections and closes them at once. It keeps the times.
type closer struct {
	address string

	mu sync.Mutex // guards at
	at []time.Time
}

func startCloser(t *testing.T) *closer {
	t.Helper()
	l := enginetest.Listen(t, "127.0.0.1:0")
	c := &closer{address: l.Addr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.at = append(c.at, time.Now())
			c.mu.Unlock()
			nc.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return c
}

// gaps are the times between one connection and the next.
func (c *closer) gaps() (all []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < len(c.at); i++ {
		all = append(all, c.at[i].Sub(c.at[i-1]))
	}
	return all
}

// Attempts to connect to a peer that is down follow each other ever more slowly, however many calls ask for it, and several sidecars
// that lost the same peer do not go in step. The pause is 50 ms, doubled up to a second, give or take an eighth. The calls are pinned to
// the peer, since others are also held back by the router.
func TestDialsArePacedWithJitter(t *testing.T) {
	enginetest.CheckLeaks(t)
	var down []*closer
	for range 3 {
		c := startCloser(t)
		s := with(relay.Config{}).Start(t, enginetest.Setup{})
		s.Set(enginetest.Instance("down", c.address))
		cc := enginetest.Dial(t, s.Address)
		quit, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for {
				if _, err := enginetest.Unary(at(context.Background(), "down"), cc, "x"); status.Code(err) != codes.Unavailable {
					t.Errorf("a call: %v", err)
				}
				select {
				case <-quit:
					return
				case <-pace.C:
				}
			}
		}()
		t.Cleanup(func() {
			close(quit)
			<-done
		})
		down = append(down, c)
	}
	const attempts = 6
	var lasted []time.Duration
	for _, c := range down {
		enginetest.Eventually(t, "it was dialled several times", func() bool { return len(c.gaps()) >= attempts })
		gaps := c.gaps()[:attempts]
		t.Log(gaps)
		least, sum := 50*time.Millisecond, time.Duration(0)
		for i, g := range gaps {
			if g < least*7/8-10*time.Millisecond { // accepting may lag
				t.Errorf("gap %d is %v, want at least %v", i, g, least*7/8)
			}
			least = min(2*least, time.Second)
			sum += g
		}
		lasted = append(lasted, sum)
	}
	if spread := slices.Max(lasted) - slices.Min(lasted); spread < 10*time.Millisecond {
		t.Errorf("the last attempts lie within %v", spread)
	}
}

package relay_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// When all calls fail, retries are a share of them, and ten in any case. A call for which nothing is left of the budget ends with its
// peer's own answer, as do those whose retry fails too.
func TestRetriesKeepToTheBudget(t *testing.T) {
	for _, c := range []struct {
		budget         float64
		calls          int
		least, atMost  uint64
		clients, peers int
	}{
		{0.2, 30, 10, 10, 1, 2}, // the floor
		{0.2, 400, 10, 80, 8, 8},
		{0, 400, 10, 80, 8, 8}, // the default
		{0.5, 400, 10, 200, 8, 8},
		{1, 400, 400, 400, 1, 8},
	} {
		t.Run(fmt.Sprint(c.budget, " of ", c.calls), func(t *testing.T) {
			s, p, _ := staged(t, safe(relay.Retry{Budget: c.budget, Attempts: 2}), c.peers, unavailable("k", "v"))
			each := c.calls / c.clients
			var wg sync.WaitGroup
			for range c.clients {
				client := enginetest.DialRaw(t, s.Address)
				wg.Go(func() {
					for i := range each {
						ask(client, uint32(2*i+1), enginetest.Method)
					}
					for range each {
						wantOwn(t, client.Next())
					}
				})
			}
			wg.Wait()
			n := s.Engine.Stats().Retries["policy"]
			t.Logf("%d of %d calls were repeated", n, c.calls)
			if n < c.least || n > c.atMost {
				t.Errorf("%d of %d calls were repeated, want %d to %d", n, c.calls, c.least, c.atMost)
			}
			if had := len(p.calls()); had != c.calls+int(n) {
				t.Errorf("the peers had %d calls, want %d and %d retries", had, c.calls, n)
			}
			s.Quiet()
		})
	}
}

// Calls that may not be repeated do not make room for others.
func TestBudgetIsOfNamedMethodsOnly(t *testing.T) {
	s, _, client := staged(t, safe(relay.Retry{Attempts: 2}), 2, unavailable("k", "v"))
	id := uint32(1)
	call := func(method string, n int) {
		for range n {
			ask(client, id, method)
			id += 2
		}
		for range n {
			wantOwn(t, client.Next())
		}
	}
	call("/other.Other/Call", 200)
	call(enginetest.Method, 40)
	wantRetries(t, s, map[string]uint64{"policy": 10})
	s.Quiet()
}

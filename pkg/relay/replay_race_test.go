package relay_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// turned has peers turn away the first of the two arrivals of each call, once so much of it has come as the call itself says, and take
// the second whole. It keeps what the last arrival of each call had.
type turned struct {
	p     cast
	moved atomic.Int64

	mu    sync.Mutex // guards the fields below
	turns map[string]int
	had   map[string]*got
}

func (r *turned) script(away script) script {
	return func(g *got) act {
		name := g.value("name")
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.had[name] != g {
			r.had[name] = g
			r.turns[name]++
		}
		if r.turns[name] == 1 {
			var at int
			_, _ = fmt.Sscan(g.value("turn-at"), &at)
			if len(g.body) < at {
				return waits
			}
			r.moved.Add(1)
			return away(g)
		}
		if !g.end {
			return waits
		}
		return ok(g)
	}
}

// lastArrival is what the last peer has that was sent a call.
func (r *turned) lastArrival(name string) (body []byte, arrivals int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return bytes.Clone(r.had[name].body), r.turns[name]
}

// A client sends while its call is on its way from one peer to another: each octet arrives there once, in order.
func TestWhatIsSentDuringTheMoveArrivesOnce(t *testing.T) {
	for name, c := range map[string]struct {
		away           script
		clients, calls int // a GOAWAY also moves the calls of other clients: that is for one client at a time
	}{
		"GOAWAY": {leaves, 1, 100}, "REFUSED_STREAM": {refuses, 4, 60},
	} {
		t.Run(name, func(t *testing.T) {
			const size = 40000
			s, r := racing(t, c.away)
			var wg sync.WaitGroup
			for i := range c.clients {
				client := enginetest.DialRaw(t, s.Address)
				wg.Go(func() {
					for j := range c.calls {
						body, name := random(size), fmt.Sprint(i, " ", j)
						id := uint32(2*j + 1)
						client.Request(id, false, "name", name, "turn-at", fmt.Sprint(rand.IntN(size)))
						for rest := body; len(rest) > 0; {
							n := min(len(rest), 1+rand.IntN(4000))
							_ = client.Framer.WriteData(id, n == len(rest), rest[:n])
							rest = rest[n:]
						}
						code, message := client.Result()
						if got, n := r.lastArrival(name); code != "0" || n != 2 || !bytes.Equal(got, body) {
							t.Errorf("the client got %s %s; after %d arrivals a peer has %d octets of %d", code, message, n, len(got), size)
							return
						}
					}
				})
			}
			wg.Wait()
			t.Logf("%d calls were moved", r.moved.Load())
			s.Quiet()
		})
	}
}

// racing is a sidecar with two such peers.
func racing(t *testing.T, away script) (*enginetest.Sidecar, *turned) {
	t.Helper()
	enginetest.CheckLeaks(t)
	r := &turned{p: cast{t: t}, turns: make(map[string]int), had: make(map[string]*got)}
	s := subject.Start(t, enginetest.Setup{})
	s.Set(r.p.peer("a", r.script(away)), r.p.peer("b", r.script(away)))
	return s, r
}

// The octet with which a call becomes too large to be kept comes just as its peer turns the call away. Either the call is moved with
// all of its DATA, or it ends; no peer may have a part of it for the whole.
func TestCallThatGrowsTooLargeDuringTheMoveIsWhole(t *testing.T) {
	const calls, kept = 400, 64 << 10
	s, r := racing(t, refuses)
	client := enginetest.DialRaw(t, s.Address)
	ping(t, client)
	ended := make(map[string]int)
	for i := range calls {
		body, name, id := random(kept+1), fmt.Sprint(i), uint32(2*i+1)
		client.Request(id, false, "name", name, "turn-at", fmt.Sprint(kept))
		send(t, client, id, body[:kept], false)
		for credit := false; !credit; {
			f, err := client.Framer.ReadFrame()
			enginetest.Must(t, err)
			w, ok := f.(*http2.WindowUpdateFrame)
			credit = ok && w.StreamID == id
		}
		for began, pause := time.Now(), rand.N(200*time.Microsecond); time.Since(began) < pause; {
		}
		enginetest.Must(t, client.Framer.WriteData(id, true, body[kept:]))
		code, message := client.Result()
		ended[code]++
		got, n := r.lastArrival(name)
		if whole := n == 2 && bytes.Equal(got, body); code == "0" && !whole || code != "0" && (code != "14" || n != 1) {
			t.Fatalf("the client got %s %s; after %d arrivals a peer has %d octets of %d", code, message, n, len(got), len(body))
		}
	}
	t.Logf("the calls ended with %v", ended)
	s.Quiet()
}

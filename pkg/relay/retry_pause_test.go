package relay_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

const pushback = "grpc-retry-pushback-ms"

// What a server says of a retry overrides the relay's own pause, and forbids it if it is negative or can't be read (gRFC A6): then
// the client gets the answer as it is.
func TestPushback(t *testing.T) {
	for _, c := range []struct {
		name     string
		fields   []string
		repeated bool
		least    time.Duration
	}{
		{"none", nil, true, 20 * time.Millisecond}, // a fifth less than 25 ms
		{"zero", []string{pushback, "0"}, true, 0},
		{"positive", []string{pushback, "250"}, true, 250 * time.Millisecond},
		{"negative", []string{pushback, "-1"}, false, 0},
		{"not a number", []string{pushback, "soon"}, false, 0},
		{"a fraction", []string{pushback, "0.5"}, false, 0},
		{"too large", []string{pushback, "99999999999999999999"}, false, 0},
		{"empty", []string{pushback, ""}, false, 0},
		{"two", []string{pushback, "1", pushback, "2"}, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p, client := staged(t, safe(relay.Retry{}), 2, firstly(unavailable(c.fields...), ok))
			began := time.Now()
			ask(client, 1, enginetest.Method)
			want, calls := "14", 1
			if c.repeated {
				want, calls = "0", 2
			}
			code, message := client.Result()
			if took := time.Since(began); took < c.least {
				t.Errorf("the client had its answer after %v, want a pause of %v", took, c.least)
			}
			if code != want || !c.repeated && message != noThanks {
				t.Errorf("the client got %s %s, want %s", code, message, want)
			}
			all := p.calls()
			if len(all) != calls {
				t.Fatalf("the peers had %d calls, want %d", len(all), calls)
			}
			if c.repeated {
				t.Logf("the second peer had the call %v after the first", all[1].at.Sub(all[0].at))
			}
			s.Quiet()
		})
	}
}

// left is how much time the peer was told that the call has.
func (g *got) left(t *testing.T) time.Duration {
	t.Helper()
	v := g.value("grpc-timeout")
	n, err := strconv.Atoi(v[:len(v)-1])
	enginetest.Must(t, err)
	switch v[len(v)-1] {
	case 'n':
		return time.Duration(n)
	case 'u':
		return time.Duration(n) * time.Microsecond
	case 'm':
		return time.Duration(n) * time.Millisecond
	case 'S':
		return time.Duration(n) * time.Second
	}
	t.Fatalf("grpc-timeout %s", v)
	return 0
}

// The time that a call has is that of its client: what the first peer and the pause have used is gone.
func TestRetryHasLessTime(t *testing.T) {
	const pause, timeout = 300, 2000
	s, p, client := staged(t, safe(relay.Retry{}), 2, firstly(unavailable(pushback, fmt.Sprint(pause)), hold))
	began := time.Now()
	ask(client, 1, enginetest.Method, "grpc-timeout", fmt.Sprint(timeout, "m"))
	if code, message := client.Result(); code != "4" {
		t.Errorf("the client got %s %s, want DEADLINE_EXCEEDED", code, message)
	}
	if took := time.Since(began); took < timeout*time.Millisecond {
		t.Errorf("the deadline passed after %v, want no less than %d ms", took, timeout)
	}
	all := p.await(2, (*got).wasReset)
	if d := all[0].left(t); d > timeout*time.Millisecond {
		t.Errorf("the first peer was told %v of %d ms", d, timeout)
	}
	if d := all[1].left(t); d > (timeout-pause)*time.Millisecond {
		t.Errorf("the second peer was told %v of %d ms, after a pause of %d", d, timeout, pause)
	}
	if code := *all[1].reset; code != http2.ErrCodeCancel {
		t.Errorf("the second peer got RST_STREAM(%v)", code)
	}
	s.Quiet()
}

// A call whose deadline would pass during the pause is not repeated: its client gets at once what the peer has said.
func TestNoTimeForTheRetry(t *testing.T) {
	s, p, client := staged(t, safe(relay.Retry{}), 2, unavailable(pushback, "60000", "k", "v"))
	ask(client, 1, enginetest.Method, "grpc-timeout", "9S")
	h := client.Next()
	if v := enginetest.Values(h, pushback); len(v) != 1 || v[0] != "60000" {
		t.Errorf("the client got %s %q", pushback, v)
	}
	if v := enginetest.Values(h, "grpc-message"); len(v) != 1 || v[0] != noThanks {
		t.Errorf("the client got the message %q", v)
	}
	if v := enginetest.Values(h, "k"); len(v) != 1 || v[0] != "v" || !h.StreamEnded() {
		t.Errorf("the client got %v", h)
	}
	if n := len(p.calls()); n != 1 {
		t.Errorf("the peers had %d calls", n)
	}
	wantRetries(t, s, nil)
	s.Quiet()
}

// pausing is a call with DATA that was answered so that it is to be repeated in an hour.
func pausing(t *testing.T) (*enginetest.Sidecar, *cast, *enginetest.RawConn) {
	t.Helper()
	s, p, client := staged(t, safe(relay.Retry{}), 2, func(g *got) act {
		if len(g.body) < 1000 {
			return waits
		}
		return unavailable(pushback, "3600000")(g)
	})
	client.Request(1, false)
	send(t, client, 1, random(1000), false)
	awaitPause(t, s, p)
	if st := s.Engine.Stats(); st.InFlight != 1 || st.ReplayBytes != 1000 {
		t.Errorf("during the pause %d calls are in flight, with %d octets for replays", st.InFlight, st.ReplayBytes)
	}
	return s, p, client
}

// awaitPause waits until the only call was taken back from its first peer.
func awaitPause(t *testing.T, s *enginetest.Sidecar, p *cast) {
	t.Helper()
	p.await(1, nil)
	enginetest.Eventually(t, "the call is with no peer", func() bool {
		st := s.Engine.Stats()
		for _, p := range st.Peers {
			if p.Streams > 0 {
				return false
			}
		}
		return st.InFlight == 1
	})
}

// Nobody waits for an hour's pause: not a client that gives up, not one that is gone, not Drain, not Close.
func TestPauseEnds(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *enginetest.Sidecar, *enginetest.RawConn){
		"by cancel": func(t *testing.T, _ *enginetest.Sidecar, c *enginetest.RawConn) {
			enginetest.Must(t, c.Framer.WriteRSTStream(1, http2.ErrCodeCancel))
		},
		"by the client's end": func(t *testing.T, _ *enginetest.Sidecar, c *enginetest.RawConn) {
			enginetest.Must(t, c.Framer.WriteGoAway(0, http2.ErrCodeNo, nil))
			enginetest.Must(t, c.Framer.WriteRawFrame(http2.FrameData, 0, 0, nil)) // DATA without a stream
		},
		"by Drain": func(t *testing.T, s *enginetest.Sidecar, _ *enginetest.RawConn) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			began := time.Now()
			if err := s.Engine.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Drain: %v", err)
			}
			t.Logf("Drain, bound to 50 ms, took %v", time.Since(began))
		},
		"by Close": func(t *testing.T, s *enginetest.Sidecar, _ *enginetest.RawConn) {
			began := time.Now()
			enginetest.Must(t, s.Engine.Close())
			t.Logf("Close took %v", time.Since(began))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, p, client := pausing(t)
			end(t, s, client)
			s.Quiet()
			wantRetries(t, s, nil)
			if n := len(p.calls()); n != 1 {
				t.Errorf("the peers had %d calls", n)
			}
		})
	}
}

// A call in its pause is open, so Drain waits for it, and it is repeated while the sidecar ends.
func TestDrainLetsTheRetryEnd(t *testing.T) {
	const pause = 200 * time.Millisecond
	s, p, client := staged(t, safe(relay.Retry{}), 2, firstly(unavailable(pushback, "200"), ok))
	began := time.Now()
	ask(client, 1, enginetest.Method)
	awaitPause(t, s, p)
	drained := make(chan error, 1)
	ctx := enginetest.Context(t)
	go func() { drained <- s.Engine.Drain(ctx) }()
	if code, message := client.Result(); code != "0" {
		t.Errorf("the client got %s %s", code, message)
	}
	if took := time.Since(began); took < pause {
		t.Errorf("the pause of %v took %v", pause, took)
	}
	client.Drain() // until the engine hangs up
	enginetest.Must(t, enginetest.Receive(t, drained))
	if n := len(p.calls()); n != 2 {
		t.Errorf("the peers had %d calls", n)
	}
	s.Quiet()
}

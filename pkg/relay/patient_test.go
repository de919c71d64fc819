package relay_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// pingsOnlyFor is how long a peer says nothing but that it lives, several times longer than silent peers are borne.
const pingsOnlyFor = 5 * time.Second

// A peer whose handlers take long, and which answers PINGs, lives: nothing of it is cut, however many calls it is sent, and it is
// not asked more than twice. A PING that measures a window, since DATA has come, is one of them.
func scenePingsOnly(data bool) func(*testing.T) func(*testing.T) {
	return func(t *testing.T) func(*testing.T) { return pingsOnly(t, data) }
}

func pingsOnly(t *testing.T, data bool) func(*testing.T) {
	o := startOdd(t, relay.Config{DeadAfter: time.Second}, nil, func(o *odd, c *enginetest.RawConn) {
		var pings int64
		var open []uint32
		for f := o.frame(c, &pings); f != nil; f = o.frame(c, &pings) {
			switch f := f.(type) {
			case *http2.PingFrame:
				_ = c.Framer.WritePing(true, f.Data)
			case *http2.MetaHeadersFrame:
				if data && len(open) == 0 {
					c.Respond(f.StreamID)
					for range 3 { // at the last one the window is to be measured
						c.Message(f.StreamID, 0, strings.Repeat("x", 16000))
					}
					pings = 0
				}
				open = append(open, f.StreamID)
				if len(enginetest.Values(f, "last")) == 0 {
					continue
				}
				for _, id := range open {
					if data && id == open[0] {
						c.Headers(id, true, "grpc-status", "0")
						continue
					}
					c.Answer(id, "x")
				}
			}
		}
	})
	since := time.Now()
	results := make(chan error, 100)
	call := func(ctx context.Context) {
		var m enginetest.Message
		st, err := o.cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, enginetest.Method)
		for err == nil {
			err = st.RecvMsg(&m)
		}
		results <- err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*enginetest.Patience)
	t.Cleanup(cancel)
	made := make(chan int, 1)
	go func() {
		n := 1
		pace := time.NewTicker(300 * time.Millisecond)
		defer pace.Stop()
		for ; time.Since(since) < pingsOnlyFor; <-pace.C {
			go call(pinned(ctx))
			n++
		}
		made <- n
	}()
	return func(t *testing.T) {
		n := enginetest.Receive(t, made)
		lived := time.Since(since)
		call(metadata.AppendToOutgoingContext(pinned(ctx), "last", ""))
		for range n {
			if err := enginetest.Receive(t, results); err != io.EOF {
				t.Errorf("a call: %v", err)
			}
		}
		t.Logf("%d calls were open for up to %v; %d PINGs, %d connections", n, lived.Round(time.Millisecond), o.pings.Load(), o.conns.Load())
		if o.pings.Load() != 2 || o.conns.Load() != 1 {
			t.Errorf("%d PINGs and %d connections, want 2 and 1", o.pings.Load(), o.conns.Load())
		}
		o.s.Quiet()
	}
}

// A call on which nobody speaks is no sign of anything where others are answered.
func sceneLively(t *testing.T) func(*testing.T) {
	o := startOdd(t, relay.Config{DeadAfter: time.Second}, nil, (*odd).readsOnly)
	open := o.hold(t)
	since := time.Now()
	n := o.start(t)
	return func(t *testing.T) {
		enginetest.Eventually(t, "a while has passed", func() bool { return time.Since(since) > 4*time.Second })
		select {
		case e := <-open:
			t.Errorf("the silent call ended after %v: %v", e.at.Sub(since), e.err)
		default:
		}
		made, wrong := n.stop()
		t.Logf("%d calls beside it, %d of them on its connection, %d PINGs", made, o.calls.Load()-1, o.pings.Load())
		if wrong != "" || o.pings.Load() != 0 || o.conns.Load() != 1 {
			t.Errorf("failed: %q; %d PINGs, %d connections", wrong, o.pings.Load(), o.conns.Load())
		}
	}
}

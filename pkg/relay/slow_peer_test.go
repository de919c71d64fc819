package relay_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// wide are windows that never hold the relay up: what the peer does not read waits in sockets.
var wide = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 30}}

// slowUpload sends until it is stopped, or cannot any more.
type slowUpload struct {
	octets  int64 // once stopped is closed
	last    atomic.Pointer[time.Time]
	stop    chan struct{}
	stopped chan struct{}
	done    chan ended
}

// startUpload begins with small messages, until first, if there is one, holds.
func startUpload(t *testing.T, o *odd, first func() bool) *slowUpload {
	t.Helper()
	ctx, cancel := context.WithTimeout(pinned(context.Background()), 3*enginetest.Patience)
	t.Cleanup(cancel)
	u := &slowUpload{stop: make(chan struct{}), stopped: make(chan struct{}), done: make(chan ended, 1)}
	st := enginetest.Begin(t, ctx, o.cc)
	go func() {
		defer close(u.stopped)
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		m := enginetest.Message("x")
		for first != nil && !first() && st.SendMsg(&m) == nil {
			<-pace.C
		}
		u.send(st)
	}()
	go func() {
		e := <-untilEnd(st)
		u.done <- e
	}()
	return u
}

func (u *slowUpload) send(st grpc.ClientStream) {
	m := enginetest.Message(make([]byte, 4096-5))
	for st.SendMsg(&m) == nil {
		u.octets += 4096
		now := time.Now()
		u.last.Store(&now)
		select {
		case <-u.stop:
			_ = st.CloseSend()
			return
		default:
		}
	}
}

// slowFor is how long the upload goes on.
const slowFor = 5 * time.Second

// sceneSlow has a peer read an upload 16 KiB at a time, with pauses. It gives credit for what it reads, or says nothing at all: a PING
// lies megabytes behind, and only its kernel shows that somebody reads, whenever a sixteenth of its buffer is free again.
func sceneSlow(credits bool, pause, dead time.Duration) func(*testing.T) func(*testing.T) {
	return func(t *testing.T) func(*testing.T) {
		since := time.Now()
		got := make(chan int64, 1)
		o := startOdd(t, relay.Config{DeadAfter: dead}, wide, func(o *odd, c *enginetest.RawConn) {
			_ = c.Framer.WriteWindowUpdate(0, 1<<30)
			var pings, octets int64
			pace := time.NewTicker(pause)
			defer pace.Stop()
			unread := int64(0)
			for f := o.frame(c, &pings); f != nil; f = o.frame(c, &pings) {
				switch f := f.(type) {
				case *http2.PingFrame:
					_ = c.Framer.WritePing(true, f.Data)
				case *http2.MetaHeadersFrame:
					c.Respond(f.StreamID)
				case *http2.DataFrame:
					octets += int64(f.Length)
					if f.StreamEnded() {
						c.Headers(f.StreamID, true, "grpc-status", "0")
						got <- octets
						continue
					}
					if unread += int64(f.Length); unread < 16<<10 || time.Since(since) > slowFor {
						continue
					}
					if credits {
						_ = c.Framer.WriteWindowUpdate(f.StreamID, uint32(unread))
					}
					unread = 0
					<-pace.C
				}
			}
		})
		u := startUpload(t, o, nil)
		time.AfterFunc(slowFor, func() { close(u.stop) })
		return func(t *testing.T) {
			e := enginetest.Receive(t, u.done)
			if e.err != io.EOF {
				t.Fatalf("the upload ended after %v: %v", e.at.Sub(since), e.err)
			}
			<-u.stopped
			if n := enginetest.Receive(t, got); n != u.octets {
				t.Errorf("%d octets were sent, %d came", u.octets, n)
			}
			t.Logf("%d octets within %v, %d PINGs", u.octets, e.at.Sub(since).Round(time.Millisecond), o.pings.Load())
			if o.conns.Load() != 1 || o.pings.Load() > 2 {
				t.Errorf("%d connections, %d PINGs", o.conns.Load(), o.pings.Load())
			}
		}
	}
}

// sceneDeaf has a peer read nothing any more while an upload to it is under way, after it was asked as often as may be. No new call finds
// out. A server reads whatever its windows say (RFC 9113 §5.2.2), so one that does not is as good as stopped.
func sceneDeaf(t *testing.T) func(*testing.T) {
	over := make(chan struct{})
	o := startOdd(t, relay.Config{DeadAfter: oddDead}, wide, func(o *odd, c *enginetest.RawConn) {
		_ = c.Framer.WriteWindowUpdate(0, 1<<30)
		var pings int64
		for f := o.frame(c, &pings); f != nil; f = o.frame(c, &pings) {
			switch f := f.(type) {
			case *http2.PingFrame:
				_ = c.Framer.WritePing(true, f.Data)
				if pings == 2 {
					o.mute.Store(true)
					<-over
				}
			case *http2.MetaHeadersFrame:
				c.Respond(f.StreamID)
			}
		}
	})
	t.Cleanup(func() { close(over) })
	u := startUpload(t, o, o.mute.Load)
	return func(t *testing.T) {
		e := enginetest.Receive(t, u.done)
		lasted := e.at.Sub(*u.last.Load())
		t.Logf("%v after the last octet was taken: %v", lasted.Round(time.Millisecond), e.err)
		if status.Code(e.err) != codes.Unavailable || !strings.Contains(e.err.Error(), "silent") {
			t.Errorf("got %v, want UNAVAILABLE, since the peer is silent", e.err)
		}
		if lasted < oddDead-grace || lasted > oddDead+2*grace {
			t.Errorf("the upload ended after %v, want %v", lasted, oddDead)
		}
	}
}

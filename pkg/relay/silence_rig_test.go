package relay_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// oddDead is when a silent peer's calls end in these tests, unless one says otherwise: later than new calls must avoid the peer.
const oddDead = 3 * time.Second

const (
	// avoidedWithin is how long new calls may go to a peer that has fallen silent.
	avoidedWithin = 2 * time.Second
	// grace is what a busy machine may add to a time.
	grace = 500 * time.Millisecond
)

// odd is a scripted peer that stops to behave, beside one that is well.
type odd struct {
	s  *enginetest.Sidecar
	cc *grpc.ClientConn
	// mute has the peer behave oddly from now on.
	mute atomic.Bool
	// conns counts its connections, pings the most PINGs between two HEADERS or DATA of its own, calls what it was sent on its first
	// connection, and last when that was the last time.
	conns, pings, calls atomic.Int64
	last                atomic.Pointer[time.Time]
}

// startOdd runs a sidecar with an odd peer, whose connections are handled by script, and one that is well.
func startOdd(t *testing.T, cfg relay.Config, settings []http2.Setting, script func(*odd, *enginetest.RawConn)) *odd {
	t.Helper()
	o := &odd{s: with(cfg).Start(t, enginetest.Setup{})}
	peer := enginetest.StartRawPeer(t, settings, func(c *enginetest.RawConn) {
		o.conns.Add(1)
		script(o, c)
	})
	well := enginetest.StartBackend(t, enginetest.Echo)
	o.s.Set(enginetest.Instance("odd", peer.Address), enginetest.Instance("well", well.Address))
	o.cc = enginetest.Dial(t, o.s.Address)
	return o
}

// stats are those of the odd peer's connections.
func (o *odd) stats() (p engine.PeerConnections) {
	for _, p := range o.s.Engine.Stats().Peers {
		if p.Key.ID == "odd" {
			return p
		}
	}
	return p
}

// peer is the router's view of it.
func (o *odd) peer() *routing.Peer {
	for _, p := range o.s.Router.Known() {
		if p.Key.ID == "odd" {
			return p
		}
	}
	return nil
}

// pinned has a call go to the odd peer.
func pinned(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", "odd")
}

// frame reads a frame. It keeps account of calls and PINGs, and answers neither. Nil means that the connection is gone.
func (o *odd) frame(c *enginetest.RawConn, pings *int64) http2.Frame {
	f, err := c.Framer.ReadFrame()
	if err != nil {
		return nil
	}
	switch f := f.(type) {
	case *http2.PingFrame:
		if *pings++; *pings > o.pings.Load() {
			o.pings.Store(*pings)
		}
	case *http2.MetaHeadersFrame:
		if c.N == 0 {
			now := time.Now()
			o.last.Store(&now)
			o.calls.Add(1)
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = c.Framer.WriteSettingsAck()
		}
	}
	return f
}

// readsOnly answers calls and PINGs until it is mute. A call that asks for it is held after its response headers.
func (o *odd) readsOnly(c *enginetest.RawConn) {
	var pings int64
	for f := o.frame(c, &pings); f != nil; f = o.frame(c, &pings) {
		if o.mute.Load() {
			continue
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			_ = c.Framer.WritePing(true, f.Data)
		case *http2.MetaHeadersFrame:
			pings = 0
			if len(enginetest.Values(f, "hold")) > 0 {
				c.Respond(f.StreamID)
			} else {
				c.Answer(f.StreamID, "x")
			}
		}
	}
}

// ended is how a call went, and when.
type ended struct {
	err error
	at  time.Time
}

// untilEnd tells when and how a stream ends.
func untilEnd(st grpc.ClientStream) <-chan ended {
	c := make(chan ended, 1)
	go func() {
		var m enginetest.Message
		err := st.RecvMsg(&m)
		for err == nil {
			err = st.RecvMsg(&m)
		}
		c <- ended{err, time.Now()}
	}()
	return c
}

// traffic makes new calls all the time.
type traffic struct {
	running sync.WaitGroup
	quit    context.CancelFunc

	mu    sync.Mutex // guards the fields below
	made  int
	wrong []string
}

// start makes a call every ten milliseconds. Only such as the odd peer had may fail.
func (o *odd) start(t *testing.T) *traffic {
	ctx, quit := context.WithCancel(context.Background())
	n := &traffic{quit: quit}
	t.Cleanup(func() { n.stop() })
	n.running.Go(func() {
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			n.running.Go(func() { n.note(o.one()) })
			<-pace.C
		}
	})
	return n
}

func (o *odd) one() error {
	ctx, cancel := context.WithTimeout(context.Background(), enginetest.Patience)
	defer cancel()
	_, err := enginetest.Unary(ctx, o.cc, "x")
	return err
}

func (n *traffic) note(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made++
	if err != nil && !strings.Contains(err.Error(), "app/odd") {
		n.wrong = append(n.wrong, err.Error())
	}
}

// stop makes no more calls, awaits those that there are, and tells how many there were and which failed although the odd peer did not
// have them.
func (n *traffic) stop() (made int, wrong string) {
	n.quit()
	n.running.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.wrong) > 0 {
		wrong = fmt.Sprintf("%d calls, the first: %s", len(n.wrong), n.wrong[0])
	}
	return n.made, wrong
}

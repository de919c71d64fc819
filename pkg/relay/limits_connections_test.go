package relay_test

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// A client too many is told why it is not served. It takes no other client's place, even if it stays to hear more.
func TestConnections(t *testing.T) {
	b := newLimitBed(t, relay.Config{Limits: relay.Limits{Connections: 2}}, nil)
	first := enginetest.Dial(t, b.Address)
	b.passes(first)
	const more = 5
	for range more {
		toldToGo(t, enginetest.DialRaw(t, b.Address), http2.ErrCodeEnhanceYourCalm, "max_connections", "2")
	}
	if n := b.Engine.Stats().Clients; n > 2 {
		t.Errorf("%d clients are counted, two are served", n)
	}
	if n := b.hits("max_connections"); n != more {
		t.Errorf("the limit was counted %d times, want %d", n, more)
	}
	b.unharmed()
	b.passes(first)
	first.Close()
	enginetest.Eventually(t, "the first client is gone", func() bool { return b.Engine.Stats().Clients == 1 })
	b.over("max_connections", more)
}

// An application hears at once that it is not served, and is served as soon as there is room. (The GOAWAY's text is not in the error
// that grpc-go makes of it.)
func TestConnectionsAsAnApplicationSeesIt(t *testing.T) {
	b := newLimitBed(t, relay.Config{Limits: relay.Limits{Connections: 2}}, nil)
	first, more := enginetest.Dial(t, b.Address), enginetest.Dial(t, b.Address)
	b.passes(first)
	if _, err := enginetest.Unary(at(enginetest.Context(t), "echo"), more, "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("a client too many gets %v", err)
	}
	first.Close()
	enginetest.Eventually(t, "its calls pass", func() bool {
		got, err := enginetest.Unary(at(enginetest.Context(t), "echo"), more, "x")
		return err == nil && got == "x"
	})
	b.unharmed()
}

const handshakeTimeout = 300 * time.Millisecond

// However slow a client begins, it is told so and gone after the time that it has.
func TestHandshakeTimeout(t *testing.T) {
	b := newLimitBed(t, relay.Config{Limits: relay.Limits{HandshakeTimeout: handshakeTimeout}}, nil)
	greeted := enginetest.DialRaw(t, b.Address)
	b.echoes(greeted, 1)
	settings := appendFlat(nil, http2.FrameSettings, 0, 0, []byte{0, 4, 0, 1, 0, 0})
	cases := []struct{ what, at, slowly string }{
		{what: "silence"},
		{what: "silence within the preface", at: http2.ClientPreface[:7]},
		{what: "silence after the preface", at: http2.ClientPreface},
		{what: "silence within SETTINGS", at: http2.ClientPreface + string(settings[:10])},
		{what: "one octet after the other", slowly: http2.ClientPreface + string(settings)},
	}
	for i, tc := range cases {
		began := time.Now()
		nc, err := net.Dial("tcp", b.Address)
		enginetest.Must(t, err)
		defer nc.Close()
		enginetest.Must(t, nc.SetDeadline(began.Add(enginetest.Patience)))
		_, err = io.WriteString(nc, tc.at)
		enginetest.Must(t, err)
		written := make(chan int, 1)
		go trickle(nc, tc.slowly, written)
		last := lastGoAway(t, nc)
		if n := enginetest.Receive(t, written); n >= len(http2.ClientPreface) {
			t.Errorf("%s: %d octets were awaited", tc.what, n)
		}
		took := time.Since(began)
		t.Logf("%s: %v", tc.what, took)
		names(t, last, "handshake_timeout", handshakeTimeout.String())
		if took < handshakeTimeout {
			t.Errorf("%s: it was not given its time", tc.what)
		}
		if n := b.hits("handshake_timeout"); n != uint64(i+1) {
			t.Errorf("%s: counted %d times, want %d", tc.what, n, i+1)
		}
		b.unharmed()
	}
	b.echoes(greeted, 3) // for which there is no such time any more
	b.over("handshake_timeout", uint64(len(cases)))
}

// trickle writes octets, each well in time after the last, but so slowly that all of them take many times what there is. It tells how
// many it could write.
func trickle(nc net.Conn, octets string, written chan<- int) {
	tick := time.NewTicker(handshakeTimeout / 2)
	defer tick.Stop()
	n := 0
	for n < len(octets) {
		<-tick.C
		if _, err := nc.Write([]byte(octets[n : n+1])); err != nil {
			break
		}
		n++
	}
	written <- n
}

// lastGoAway reads until the other side has ended, and gives what its GOAWAY says.
func lastGoAway(t *testing.T, nc net.Conn) (text string) {
	t.Helper()
	framer := http2.NewFramer(nil, nc)
	for {
		f, err := framer.ReadFrame()
		if err == io.EOF {
			return text
		}
		enginetest.Must(t, err)
		if g, ok := f.(*http2.GoAwayFrame); ok {
			text = string(g.DebugData())
		}
	}
}

// Clients that are turned away and do not read why leave nothing behind.
func TestTurnedAwayClientsHoldNothing(t *testing.T) {
	enginetest.CheckLeaks(t)
	s := with(relay.Config{Limits: relay.Limits{Connections: 1}}).Start(t, enginetest.Setup{})
	enginetest.DialRaw(t, s.Address)
	enginetest.Eventually(t, "one client is served", func() bool { return s.Engine.Stats().Clients == 1 })
	const others = 200
	for range others {
		nc, err := net.Dial("tcp", s.Address)
		enginetest.Must(t, err)
		enginetest.Must(t, nc.(*net.TCPConn).SetLinger(0))
		_ = nc.Close() // with RST
	}
	enginetest.Eventually(t, "all were turned away and nothing is held", func() bool {
		st := s.Engine.Stats()
		return st.Limits["max_connections"] == others && st.BufferedBytes == 0
	})
}

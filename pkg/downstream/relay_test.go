package downstream_test

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/flyproxy/flyproxy/pkg/downstream"
	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// behindTLS runs a relay that takes TLS, with a peer.
func behindTLS(t *testing.T, f *files, cfg relay.Config, h enginetest.Handler) *enginetest.Sidecar {
	t.Helper()
	enginetest.CheckLeaks(t)
	b := enginetest.StartBackend(t, h)
	server := f.tls(false)
	s := enginetest.Subject{
		New: func(t testing.TB, o enginetest.Options) engine.Engine {
			c := cfg
			c.Router, c.Observer, c.ConnectTimeout = o.Router, o.Observer, o.ConnectTimeout
			e, err := relay.New(c)
			must(t, err)
			return e
		},
		Guard: func(_ testing.TB, lis net.Listener) net.Listener {
			return downstream.New(downstream.Config{TLS: server, HandshakeTimeout: patience, MaxHandshakes: 100}).Guard(lis)
		},
	}.Start(t, enginetest.Setup{})
	s.Use(b)
	return s
}

// rawTLS is a client whose frames a script writes. Its socket holds little.
func rawTLS(t *testing.T, f *files, address string) *enginetest.RawConn {
	t.Helper()
	nc := dial(t, address, "")
	must(t, nc.(*net.TCPConn).SetReadBuffer(4<<10))
	tc := tls.Client(nc, f.client())
	must(t, tc.Handshake())
	return enginetest.RawClient(t, tc)
}

// What a client is told at its end reaches it over TLS too.
func TestNoRoomBehindTLS(t *testing.T) {
	f := newFiles(t)
	s := behindTLS(t, f, relay.Config{Limits: relay.Limits{Connections: 1}}, enginetest.Echo)
	cc := enginetest.Dial(t, s.Address, grpc.WithTransportCredentials(credentials.NewTLS(f.client())))
	_, err := enginetest.Unary(enginetest.Context(t), cc, "x")
	must(t, err)
	for range 3 {
		c := rawTLS(t, f, s.Address)
		goAway, ok := c.Frame().(*http2.GoAwayFrame)
		if !ok || goAway.ErrCode != http2.ErrCodeEnhanceYourCalm || !strings.Contains(string(goAway.DebugData()), "limits.max_connections (1)") {
			t.Errorf("%v", goAway)
		}
		if f := c.Frame(); f != nil {
			t.Errorf("after the GOAWAY came %v", f)
		}
	}
	_, err = enginetest.Unary(enginetest.Context(t), cc, "x")
	must(t, err)
}

// Clients that do not read what they asked for hold neither more than there is room for, nor up others, nor the end.
func TestDeafClientsBehindTLS(t *testing.T) {
	f := newFiles(t)
	const most, deaf = 512 << 10, 6
	s := behindTLS(t, f, relay.Config{Limits: relay.Limits{BufferedBytes: most}}, func(_ *enginetest.Backend, st grpc.ServerStream) error {
		var m enginetest.Message
		if err := st.RecvMsg(&m); err != nil || string(m) != "fill" {
			return st.SendMsg(&m)
		}
		m = enginetest.Message(strings.Repeat("x", 32<<10))
		for {
			if err := st.SendMsg(&m); err != nil {
				return err
			}
		}
	})
	cc := enginetest.Dial(t, s.Address, grpc.WithTransportCredentials(credentials.NewTLS(f.client())))
	var slowest time.Duration
	call := func() {
		t.Helper()
		began := time.Now()
		got, err := enginetest.Unary(enginetest.Context(t), cc, "x")
		if err != nil || got != "x" {
			t.Fatalf("a client that reads: %q %v", got, err)
		}
		slowest = max(slowest, time.Since(began))
	}
	call()
	for range deaf {
		c := rawTLS(t, f, s.Address)
		must(t, c.Framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 64 << 20}))
		must(t, c.Framer.WriteWindowUpdate(0, 64<<20))
		for i := range uint32(4) {
			c.Request(2*i+1, false)
			c.Message(2*i+1, 0, "fill")
			must(t, c.Framer.WriteData(2*i+1, true, nil))
		}
		call()
	}
	eventually(t, "some calls give way, and what is held is within its bound", func() bool {
		call()
		st := s.Engine.Stats()
		return st.Limits["max_buffered_bytes"] > 0 && st.BufferedBytes <= most
	})
	for range 100 {
		call()
	}
	began := time.Now()
	must(t, s.Engine.Close())
	took := time.Since(began)
	t.Logf("the slowest call beside them took %v, closing %v", slowest, took)
	if took > 2*time.Second {
		t.Errorf("closing took %v", took)
	}
}

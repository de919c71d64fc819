package grpcengine_test

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/grpcengine"
)

// subject is this engine for the suite that all engines pass. What it cannot pass is in limits_*_test.go.
var subject = enginetest.Subject{New: newEngine}

func newEngine(t testing.TB, o enginetest.Options) engine.Engine {
	t.Helper()
	e, err := grpcengine.New(grpcengine.Config{
		Router: o.Router, Observer: o.Observer, ConnectTimeout: o.ConnectTimeout, MaxConnectionsPerPeer: o.MaxConnectionsPerPeer,
		IdleTimeout: o.IdleTimeout, AllowedNetworks: o.AllowedNetworks, Own: o.Own,
	})
	enginetest.Must(t, err)
	return e
}

func TestContract(t *testing.T) { enginetest.Run(t, subject) }

func TestNewNeedsRouter(t *testing.T) {
	if _, err := grpcengine.New(grpcengine.Config{}); err == nil {
		t.Error("no error")
	}
}

// rawPair is a scripted peer behind a sidecar, with a scripted client.
func rawPair(t *testing.T, script func(*enginetest.RawConn)) (*enginetest.Sidecar, *enginetest.RawConn) {
	t.Helper()
	enginetest.CheckLeaks(t)
	return subject.RawPair(t, script)
}

// tells answers every call, and tells the headers of each.
func tells(got chan<- *http2.MetaHeadersFrame) func(*enginetest.RawConn) {
	return func(c *enginetest.RawConn) {
		for h := c.Next(); h != nil; h = c.Next() {
			got <- h
			c.Answer(h.StreamID, "x")
		}
	}
}

// ask makes a call and gives what its peer saw.
func ask(t *testing.T, fields ...string) *http2.MetaHeadersFrame {
	t.Helper()
	got := make(chan *http2.MetaHeadersFrame, 1)
	_, c := rawPair(t, tells(got))
	c.Request(1, true, fields...)
	return enginetest.Receive(t, got)
}

// answerOnce answers one call.
func answerOnce(answer func(p *enginetest.RawConn, stream uint32)) func(*enginetest.RawConn) {
	return func(p *enginetest.RawConn) {
		if h := p.Next(); h != nil {
			answer(p, h.StreamID)
			p.Next()
		}
	}
}

// odd makes a call whose peer answers it so, and gives the result that the client sees.
func odd(t *testing.T, answer func(p *enginetest.RawConn, stream uint32)) (code, message string) {
	t.Helper()
	_, c := rawPair(t, answerOnce(answer))
	c.Request(1, true)
	return c.Result()
}

package relay

import (
	"cmp"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// What only shows when two goroutines meet at a certain place is shown from inside, by doing their steps in the order that once broke.

// white is this engine as the suite's subject, and the engine that was made last.
func white(cfg Config) (enginetest.Subject, **Engine) {
	made := new(*Engine)
	return enginetest.Subject{New: func(t testing.TB, o enginetest.Options) engine.Engine {
		c := cfg
		c.Router, c.Observer = o.Router, o.Observer
		c.ConnectTimeout = cmp.Or(o.ConnectTimeout, c.ConnectTimeout)
		e, err := New(c)
		enginetest.Must(t, err)
		*made = e
		return e
	}}, made
}

// clientStream awaits a stream of a client.
func clientStream(t testing.TB, e *Engine, id uint32) (s *stream) {
	t.Helper()
	enginetest.Eventually(t, "the stream is there", func() bool {
		for _, c := range e.all((*conn).isClient) {
			if h := c.lookup(id); h != nil {
				s = h.s
				return true
			}
		}
		return false
	})
	return s
}

// toPeers are the connections to peers.
func (e *Engine) toPeers() []*conn { return e.all(func(c *conn) bool { return c.link != nil }) }

package relay_test

import (
	"cmp"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// with is this engine with a configuration of its own; what the suite's Options say goes before.
func with(cfg relay.Config) enginetest.Subject {
	return enginetest.Subject{Differences: differences, New: func(t testing.TB, o enginetest.Options) engine.Engine {
		t.Helper()
		c := cfg
		c.Router, c.Observer = o.Router, o.Observer
		c.ConnectTimeout = cmp.Or(o.ConnectTimeout, c.ConnectTimeout)
		c.MaxConnectionsPerPeer = cmp.Or(o.MaxConnectionsPerPeer, c.MaxConnectionsPerPeer)
		c.IdleTimeout = cmp.Or(o.IdleTimeout, c.IdleTimeout)
		if len(o.AllowedNetworks) > 0 {
			c.AllowedNetworks = o.AllowedNetworks
		}
		if o.Own != nil {
			c.Own = o.Own
		}
		e, err := relay.New(c)
		enginetest.Must(t, err)
		return e
	}}
}

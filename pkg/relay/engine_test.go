package relay_test

import (
	"testing"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// subject is this engine for the suite that all engines pass.
var subject = enginetest.Subject{
	New: newEngine,
	Differences: enginetest.Differences{
		RejectsConnectionHeaders: true,
		TellsDeadlines:           true,
		PassesResets:             true,
	},
}

func newEngine(t testing.TB, o enginetest.Options) engine.Engine {
	t.Helper()
	e, err := relay.New(relay.Config{
		Router: o.Router, Observer: o.Observer, ConnectTimeout: o.ConnectTimeout, MaxConnectionsPerPeer: o.MaxConnectionsPerPeer,
		IdleTimeout: o.IdleTimeout, AllowedNetworks: o.AllowedNetworks,
	})
	enginetest.Must(t, err)
	return e
}

func TestContract(t *testing.T) { enginetest.Run(t, subject) }

func TestNewNeedsRouter(t *testing.T) {
	if _, err := relay.New(relay.Config{}); err == nil {
		t.Error("no error")
	}
}

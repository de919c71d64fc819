package relay_test

import (
	"testing"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// subject is this engine for the suite that all engines pass.
var subject = with(relay.Config{})

var differences = enginetest.Differences{RejectsConnectionHeaders: true, TellsDeadlines: true, PassesResets: true}

func TestContract(t *testing.T) { enginetest.Run(t, subject) }

func TestNewNeedsRouter(t *testing.T) {
	if _, err := relay.New(relay.Config{}); err == nil {
		t.Error("no error")
	}
}

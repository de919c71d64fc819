package interop_test

import (
	"net"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// plane is one way from clients to an app.
type plane struct {
	Name string
	// New makes the data plane with its defaults. Nil means that there is none: clients dial the app.
	New func(*routing.Router) (engine.Engine, error)
}

// direct validates the tests themselves.
var direct = plane{Name: "direct"}

var planes = []plane{
	{"relay", func(r *routing.Router) (engine.Engine, error) { return relay.New(relay.Config{Router: r}) }},
	{"grpc", func(r *routing.Router) (engine.Engine, error) { return grpcengine.New(grpcengine.Config{Router: r}) }},
}

// start runs the plane in front of one app until the test's end, and gives the address that clients dial.
func (p plane) start(t testing.TB, app string) (address string) {
	t.Helper()
	if p.New == nil {
		return app
	}
	r, err := routing.New(routing.Config{
		Service: "app", Region: "fra", Policy: routing.RoundRobin, PreferRegion: true, SelfMode: routing.SelfLast,
		Headers: routing.Headers{Service: "flyproxy-service", ForceInstance: "fly-force-instance-id"},
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.New(r)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	served := make(chan error, 1)
	go func() { served <- e.Serve(l) }()
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("%s: Close: %v", p.Name, err)
		}
		if err := <-served; err != nil {
			t.Errorf("%s: Serve: %v", p.Name, err)
		}
	})
	r.Update(&registry.View{Version: 1, Source: registry.FromRegistry, Entries: []registry.Entry{{Instance: registry.Instance{
		Service: "app", ID: "app1", Incarnation: "1", Schema: 1, Region: "fra", Address: app, State: registry.Serving,
	}}}})
	return l.Addr().String()
}

// listen gives a listener on a free port of this machine.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// patience bounds every wait. What a test finds out about times it does not judge: they depend on the machine.
const patience = 30 * time.Second

// eventually fails the test unless f comes to hold.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: not %s", patience, what)
		}
	}
}

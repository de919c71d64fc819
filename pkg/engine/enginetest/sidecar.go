package enginetest

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// Sidecar is an engine with its router, its observer and its listener.
type Sidecar struct {
	Engine  engine.Engine
	Router  *routing.Router
	Address string
	// Told is what the observer was told.
	Told *Recorder

	t testing.TB

	mu      sync.Mutex // guards version
	version uint64
}

// Setup says how a Sidecar is to be. The zero Setup is the usual one.
type Setup struct {
	// Options are the engine's; Start fills Router and Observer in, and a ConnectTimeout of 3 s where there is none.
	Options
	// Routing, if not nil, changes the usual configuration of the router.
	Routing func(*routing.Config)
	// Register, if not nil, puts services on the engine.
	Register func(grpc.ServiceRegistrar)
}

// Start runs an engine without peers on a port of its own until the test's end.
func (e Subject) Start(t testing.TB, setup Setup) *Sidecar {
	t.Helper()
	return e.startOn(t, setup, Listen(t, "127.0.0.1:0"))
}

// startOn runs an engine on these listeners.
func (e Subject) startOn(t testing.TB, setup Setup, listeners ...net.Listener) *Sidecar {
	t.Helper()
	s := e.make(t, setup)
	s.Address = listeners[0].Addr().String()
	if e.Guard != nil {
		for i, lis := range listeners {
			listeners[i] = e.Guard(t, lis)
		}
	}
	served := make(chan error, 1)
	go func() { served <- s.Engine.Serve(listeners...) }()
	t.Cleanup(func() {
		if err := s.Engine.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := Receive(t, served); err != nil {
			t.Errorf("Serve: %v", err)
		}
		s.Told.check(t)
	})
	return s
}

// make makes a Sidecar that does not serve.
func (e Subject) make(t testing.TB, setup Setup) *Sidecar {
	t.Helper()
	rc := routing.Config{
		Service: "app", Region: "fra", Policy: routing.RoundRobin, PreferRegion: true, SelfMode: routing.SelfLast,
		Headers: routing.Headers{Service: "flyproxy-service", ForceInstance: "fly-force-instance-id"},
	}
	if setup.Routing != nil {
		setup.Routing(&rc)
	}
	router, err := routing.New(rc)
	Must(t, err)
	s := &Sidecar{t: t, Router: router, Told: &Recorder{}}
	o := setup.Options
	o.Router, o.Observer = router, s.Told
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 3 * time.Second
	}
	s.Engine = e.New(t, o)
	if setup.Register != nil {
		s.Engine.Register(setup.Register)
	}
	return s
}

// Pair runs a sidecar with one peer and a client.
func (e Subject) Pair(t testing.TB, h Handler) (*Sidecar, *Backend, *grpc.ClientConn) {
	t.Helper()
	b := StartBackend(t, h)
	s := e.Start(t, Setup{})
	s.Use(b)
	return s, b, Dial(t, s.Address)
}

// Instance is a peer's entry in the registry.
func Instance(id, address string) registry.Instance {
	return registry.Instance{
		Service: "app", ID: id, Incarnation: "1", Schema: 1, Region: "fra", Address: address, State: registry.Serving,
	}
}

// Set puts these instances, and no others, in force.
func (s *Sidecar) Set(instances ...registry.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	v := &registry.View{Version: s.version, Source: registry.FromRegistry}
	for _, in := range instances {
		v.Entries = append(v.Entries, registry.Entry{Instance: in})
	}
	s.Router.Update(v)
}

// Use puts these peers, and no others, in force: as i0, i1 and so on.
func (s *Sidecar) Use(backends ...*Backend) {
	var in []registry.Instance
	for i, b := range backends {
		in = append(in, Instance(fmt.Sprint("i", i), b.Address))
	}
	s.Set(in...)
}

// Quiet waits until nothing is left of the calls.
func (s *Sidecar) Quiet() {
	s.t.Helper()
	Until(s.t, s.unrest)
}

// unrest names what is left of the calls.
func (s *Sidecar) unrest() string {
	st := s.Engine.Stats()
	switch {
	case st.InFlight != 0:
		return fmt.Sprintf("no calls in flight (Stats has %d, peers %+v)", st.InFlight, st.Peers)
	case st.BufferedBytes != 0 || st.ReplayBytes != 0:
		return fmt.Sprintf("nothing held (Stats has %d buffered bytes, %d for replays)", st.BufferedBytes, st.ReplayBytes)
	}
	for _, p := range st.Peers {
		if p.Streams != 0 || p.Waiting != 0 {
			return fmt.Sprintf("no streams, nobody waiting (Stats has %+v)", p)
		}
	}
	for key, p := range s.Router.Peers() {
		if p.InFlight != 0 {
			return fmt.Sprintf("no calls in flight at %s (the router has %d)", key, p.InFlight)
		}
	}
	if started, ended := s.Told.counts(); started != ended {
		return fmt.Sprintf("every call told to have ended (%d of %d were)", ended, started)
	}
	return ""
}

// waiting is how many calls wait for a connection or for room.
func (s *Sidecar) waiting() (n int) {
	for _, p := range s.Engine.Stats().Peers {
		n += p.Waiting
	}
	return n
}

// AwaitWaiting waits until n calls wait.
func (s *Sidecar) AwaitWaiting(n int) {
	s.t.Helper()
	Until(s.t, func() string {
		if got := s.waiting(); got != n {
			return fmt.Sprintf("%d calls wait (Stats has %d: %+v)", n, got, s.Engine.Stats().Peers)
		}
		return ""
	})
}

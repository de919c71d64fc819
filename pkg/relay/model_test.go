package relay_test

import (
	"context"
	"flag"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
	"github.com/flyproxy/flyproxy/test/conformance/leak"
)

// The model test runs random schedules of what clients and peers may do, all of it allowed, through one engine. Each of its ends
// ([modelEnd]) keeps every account that RFC 9113 asks for and breaks the run when the engine sends what it was not allowed to:
// more DATA than a window of the connection or of the stream had, counted in order with the ACKs of SETTINGS; a frame over
// SETTINGS_MAX_FRAME_SIZE; a stream over SETTINGS_MAX_CONCURRENT_STREAMS; a header block that does not decode with the table that
// was allowed; a frame after END_STREAM or RST_STREAM; a PING's ACK out of order. What arrives is compared with what was sent, byte
// by byte and field by field, while it comes. At the end everybody reads and gives credit, and every call must come to the end that
// its two sides gave it ([modelCall.over]).
//
// More schedules: go test -run TestModel -rapid.checks=5000 ./pkg/relay

// modelChecks is how many schedules a run has, unless -rapid.checks says otherwise.
const modelChecks = "60"

// modelPatience is how long a run may take to come to rest at its end. It is reached only when something hangs.
const modelPatience = 3 * time.Second

func TestModel(t *testing.T) {
	leak.Check(t, "flyproxy/pkg/relay.")
	modelFlags(t)
	rapid.Check(t, func(rt *rapid.T) {
		newModelRun(rt, genModelSchedule(rt)).run()
	})
}

// modelFlags sets the number of checks where the command line does not.
func modelFlags(t *testing.T) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if given {
		return
	}
	old := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", modelChecks); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set("rapid.checks", old) })
}

// modelT is a *rapid.T or a *testing.T.
type modelT interface {
	Context() context.Context
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// modelRun is one schedule being run.
type modelRun struct {
	t        modelT
	schedule *modelSchedule
	router   *routing.Router
	engine   *relay.Engine
	served   chan error
	tasks    sync.WaitGroup

	// mu guards the fields below and all fields of the run's ends, peers and calls. changed is told of every change.
	mu      sync.Mutex
	changed *sync.Cond
	fault   string // the first rule that was broken
	events  []modelEvent
	clients []*modelEnd
	peers   []*modelPeer
	calls   []*modelCall
	byPath  map[string]*modelCall
	// ending is set when every end reads and gives credit, closing when connections may be closed.
	ending, closing bool
	started, ended  int
	// cuts says that a peer's connection was cut, of which the engine may not know yet: it may send calls there.
	cuts    bool
	outcome map[string]codes.Code
}

func newModelRun(t modelT, s *modelSchedule) *modelRun {
	r := &modelRun{t: t, schedule: s, served: make(chan error, 1), byPath: make(map[string]*modelCall),
		outcome: make(map[string]codes.Code)}
	r.changed = sync.NewCond(&r.mu)
	var err error
	if r.router, err = routing.New(routing.Config{Service: "app", Policy: routing.RoundRobin}); err != nil {
		t.Fatal(err)
	}
	// An end that does not read for a while is not to count as dead.
	cfg := relay.Config{Router: r.router, ConnectTimeout: modelPatience, DeadAfter: 2 * modelPatience, Observer: r}
	if r.engine, err = relay.New(cfg); err != nil {
		t.Fatal(err)
	}
	return r
}

// CallStarted is the engine's Observer.
func (r *modelRun) CallStarted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started++
}

// CallEnded is the engine's Observer.
func (r *modelRun) CallEnded(c engine.CallInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended++
	if _, twice := r.outcome[c.Method]; twice {
		r.breaks("the observer is told twice that %s has ended", c.Method)
	}
	r.outcome[strings.Clone(c.Method)] = c.Code
	r.changed.Broadcast()
}

// join puts the peers into the router's table.
func (r *modelRun) join() {
	v := &registry.View{Source: registry.FromRegistry}
	for _, p := range r.peers {
		v.Entries = append(v.Entries, registry.Entry{Instance: registry.Instance{
			Service: "app", ID: p.name, Incarnation: "1", Schema: 1, Address: p.lis.Addr().String(), State: registry.Serving,
		}})
	}
	r.router.Update(v)
}

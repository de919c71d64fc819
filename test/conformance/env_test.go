package conformance_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/routing"
	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

// env is what a case works with: an engine of its own, the scripted peers in its table, and clients. It belongs to the case's
// goroutine. A case ends when it does not hold: fail and the expectations of h2script do not return.
type env struct {
	*testing.T
	direct   bool
	address  string // of the engine
	router   *routing.Router
	requests *h2script.Requests
	peers    []*h2script.Server
	table    []registry.Entry
	main     *h2script.Conn
	paths    int
}

// failure is the cause for which a case does not hold.
type failure string

func newEnv(t *testing.T, en engine) *env {
	r, err := routing.New(routing.Config{
		Service: "app", Region: "fra", Policy: routing.RoundRobin, PreferRegion: true, SelfMode: routing.SelfLast,
		Headers: routing.Headers{Service: "flyproxy-service", ForceInstance: "fly-force-instance-id"},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := &env{T: t, router: r, requests: h2script.NewRequests(), direct: en.Start == nil}
	if !e.direct {
		e.address = en.Start(t, r)
	}
	return e
}

// Fatalf ends the case with a cause. It stands in the table, so it has no numbers that change from run to run.
func (e *env) Fatalf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// check ends the case unless ok.
func (e *env) check(ok bool, cause string, args ...any) {
	if !ok {
		e.Fatalf(cause, args...)
	}
}

// peer starts a scripted peer and puts it into the engine's table. A case that starts none has one with zero Options.
func (e *env) peer(o h2script.Options) *h2script.Server {
	s := h2script.Serve(e, e.requests, o)
	e.peers = append(e.peers, s)
	e.join(s.Address)
	return s
}

// join puts another peer into the engine's table.
func (e *env) join(address string) {
	e.table = append(e.table, registry.Entry{Instance: registry.Instance{
		Service: "app", ID: fmt.Sprintf("peer%03d", len(e.table)), Incarnation: "1", Schema: 1, Region: "fra", Address: address,
		State: registry.Serving,
	}})
	e.router.Update(&registry.View{Version: uint64(len(e.table)), Source: registry.FromRegistry, Entries: slices.Clone(e.table)})
}

// dial opens a client connection to the engine.
func (e *env) dial(o h2script.Options) *h2script.Conn {
	if len(e.peers) == 0 {
		e.peer(h2script.Options{})
	}
	address := e.address
	if e.direct {
		address = e.peers[0].Address
	}
	return h2script.Dial(e, address, o)
}

// client is the case's usual client connection.
func (e *env) client() *h2script.Conn {
	if e.main == nil {
		e.main = e.dial(h2script.Options{})
	}
	return e.main
}

// path gives a method that no other call of the case has.
func (e *env) path() string {
	e.paths++
	return fmt.Sprintf("/conformance.Test/Call%d", e.paths)
}

// call opens a call on the usual client connection and gives both ends of it.
func (e *env) call(more ...h2script.Field) (c, p *h2script.Stream) {
	return e.callOn(e.client(), more...)
}

func (e *env) callOn(cc *h2script.Conn, more ...h2script.Field) (c, p *h2script.Stream) {
	path := e.path()
	c = cc.Open(h2script.Request(path, more...))
	return c, e.arrival(c, path)
}

// arrival awaits the request for path at any peer. The case ends when the call does first.
func (e *env) arrival(c *h2script.Stream, path string) *h2script.Stream {
	p, o := e.fate(c, path)
	if p == nil {
		e.Fatalf("the call does not reach a peer: %s", &o)
	}
	return p
}

// fate awaits that a call arrives at a peer, or else ends.
func (e *env) fate(c *h2script.Stream, path string) (p *h2script.Stream, o h2script.Outcome) {
	const step = 10 * time.Millisecond
	for deadline := time.Now().Add(h2script.Patience); time.Now().Before(deadline); {
		if p := e.requests.Take(path, step); p != nil {
			return p, o
		}
		if o = c.OutcomeWithin(0); o.Ended || o.Reset || o.Lost {
			return nil, o
		}
	}
	return nil, o
}

// finish has the peer answer a call and checks that the answer arrives.
func (e *env) finish(c, p *h2script.Stream) {
	p.Respond("answer")
	o := c.Outcome()
	e.check(o.Status() == "0", "a call that should be answered ends with %s", &o)
	e.check(string(o.Body) == string(h2script.Message(0, "answer")), "an answer arrives changed")
}

// works makes one call from end to end on that connection.
func (e *env) works(cc *h2script.Conn) {
	c, p := e.callOn(cc)
	e.finish(c, p)
}

// eventually ends the case unless f comes to hold.
func (e *env) eventually(f func() bool, cause string) {
	for deadline := time.Now().Add(h2script.Patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.Fatalf("%s", cause)
		}
	}
}

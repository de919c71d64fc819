package routing_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

var headers = routing.Headers{Service: "flyproxy-service", ForceInstance: "fly-force-instance-id"}

// km from ams, as far as these tests care.
var km = map[string]float64{"ams": 0, "fra": 365, "iad": 6200, "syd": 16600}

func distance(region string) (float64, bool) { d, ok := km[region]; return d, ok }

type option func(*routing.Config)

func newRouter(t testing.TB, opts ...option) *routing.Router {
	t.Helper()
	cfg := routing.Config{
		Service: "battle", Region: "ams", Distance: distance, Policy: routing.RoundRobin, PreferRegion: true,
		SelfMode: routing.SelfLast, Headers: headers, BackoffBase: 100 * time.Millisecond, BackoffMax: 10 * time.Second,
	}
	for _, o := range opts {
		o(&cfg)
	}
	r, err := routing.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func inst(service, id, region string) registry.Instance {
	return registry.Instance{Service: service, ID: id, Region: region, Incarnation: "1", Schema: 1,
		Address: "10.0.0.1:50051", State: registry.Serving}
}

func view(in ...registry.Instance) *registry.View {
	v := &registry.View{Version: 1, Source: registry.FromRegistry}
	for _, i := range in {
		v.Entries = append(v.Entries, registry.Entry{Instance: i})
	}
	return v
}

// route makes one answered call and gives the id that it went to.
func route(t testing.TB, r *routing.Router, c *routing.Call) string {
	t.Helper()
	p, err := r.Route(c)
	if err != nil {
		t.Fatalf("route %s: %v", c.Method, err)
	}
	p.Done(routing.Answered)
	return p.Peer.Key.ID
}

func spread(t testing.TB, r *routing.Router, calls int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	for range calls {
		got[route(t, r, &routing.Call{Method: "/b.B/M"})]++
	}
	return got
}

// refuse makes one call in which the given peers refuse, and gives the id of the one that took it.
func refuse(t testing.TB, r *routing.Router, ids ...string) string {
	t.Helper()
	c := &routing.Call{Method: "/b.B/M"}
	for range 100 {
		p, err := r.Route(c)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(ids, " "), p.Peer.Key.ID) {
			p.Done(routing.Answered)
			return p.Peer.Key.ID
		}
		p.Done(routing.Refused)
	}
	t.Fatal("a call was offered a hundred refusing peers")
	return ""
}

func TestSameRegionThenNearestThenSelf(t *testing.T) {
	r := newRouter(t, func(c *routing.Config) { c.Self = []registry.Key{{Service: "battle", ID: "me"}} })
	all := []registry.Instance{inst("battle", "me", "ams"), inst("battle", "odd", "xxx"), inst("battle", "far", "syd"),
		inst("battle", "near", "fra"), inst("battle", "here", "ams")}
	for _, want := range []string{"here", "near", "far", "odd", "me"} {
		r.Update(view(all...))
		got := spread(t, r, 20)
		if got[want] != 20 {
			t.Errorf("with %d instances all calls should go to %s, got %v", len(all), want, got)
		}
		all = slicesDelete(all, want)
	}
	r.Update(view())
	if _, err := r.Route(&routing.Call{Method: "/b.B/M"}); err == nil {
		t.Error("a call was routed to nobody")
	}
	picks := r.Picks()
	if picks["same_region"] != 20 || picks["nearest"] != 60 || picks["self"] != 20 || r.Unroutable() != 1 {
		t.Errorf("picks by reason: %v, unroutable %d", picks, r.Unroutable())
	}
}

func slicesDelete(in []registry.Instance, id string) (out []registry.Instance) {
	for _, i := range in {
		if i.ID != id {
			out = append(out, i)
		}
	}
	return out
}

func TestSelfModes(t *testing.T) {
	me, other := inst("battle", "me", "ams"), inst("battle", "other", "syd")
	for mode, want := range map[routing.SelfMode]string{routing.SelfLast: "other", routing.SelfInclude: "me", routing.SelfNever: "other"} {
		r := newRouter(t, func(c *routing.Config) { c.Self = []registry.Key{me.Key()}; c.SelfMode = mode })
		r.Update(view(me, other))
		if got := spread(t, r, 10); got[want] != 10 {
			t.Errorf("%s: %v, want all at %s", mode, got, want)
		}
		r.Update(view(me))
		_, err := r.Route(&routing.Call{Method: "/b.B/M"})
		if (err != nil) != (mode == routing.SelfNever) {
			t.Errorf("%s, alone: %v", mode, err)
		}
	}
}

func TestPreferRegionOffSpreadsOverAll(t *testing.T) {
	r := newRouter(t, func(c *routing.Config) { c.PreferRegion = false })
	r.Update(view(inst("battle", "a", "ams"), inst("battle", "b", "syd")))
	if got := spread(t, r, 10); got["a"] != 5 || got["b"] != 5 {
		t.Errorf("round robin over two: %v", got)
	}
}

func TestRoundRobinKeepsItsTurnOverAnUpdate(t *testing.T) {
	r := newRouter(t)
	v := view(inst("battle", "a", "ams"), inst("battle", "b", "ams"), inst("battle", "c", "ams"))
	got := make(map[string]int)
	for range 30 {
		r.Update(v)
		got[route(t, r, &routing.Call{Method: "/b.B/M"})]++
	}
	if got["a"] != 10 || got["b"] != 10 || got["c"] != 10 {
		t.Errorf("with an update before every call: %v", got)
	}
}

func TestLeastConnectionsAvoidsTheBusyOne(t *testing.T) {
	r := newRouter(t, func(c *routing.Config) { c.Policy = routing.LeastConnections })
	r.Update(view(inst("battle", "a", "ams"), inst("battle", "b", "ams")))
	first, err := r.Route(&routing.Call{Method: "/b.B/M"})
	if err != nil {
		t.Fatal(err)
	}
	if got := spread(t, r, 50); got[first.Peer.Key.ID] != 0 {
		t.Errorf("%s has a call in flight and still got %v", first.Peer.Key.ID, got)
	}
	first.Done(routing.Answered)
	if got := spread(t, r, 200); got["a"] < 50 || got["b"] < 50 {
		t.Errorf("with nobody busy: %v", got)
	}
}

func TestWeightedLoadFollowsWeightsAndReportedLoad(t *testing.T) {
	r := newRouter(t, func(c *routing.Config) { c.Policy = routing.WeightedLoad })
	big, small := inst("battle", "big", "ams"), inst("battle", "small", "ams")
	big.Weight, small.Weight = 300, 100
	r.Update(view(big, small))
	hold := func(n int) map[string]int {
		got := make(map[string]int)
		var open []routing.Pick
		for range n {
			p, err := r.Route(&routing.Call{Method: "/b.B/M"})
			if err != nil {
				t.Fatal(err)
			}
			got[p.Peer.Key.ID]++
			open = append(open, p)
		}
		for _, p := range open {
			p.Done(routing.Answered)
		}
		return got
	}
	if got := hold(400); got["big"] < 290 || got["big"] > 310 {
		t.Errorf("400 open calls by weight 3:1 went %v", got)
	}
	// A wholly busy big one counts double, an idle small one half: 3/2 to 1/0.5 is 3:4.
	for range 20 {
		r.Report([]registry.LoadReport{{Key: big.Key(), Load: registry.Load{CPU: 1}}, {Key: small.Key(), Load: registry.Load{CPU: 0}}})
	}
	if got := hold(700); got["big"] < 285 || got["big"] > 315 {
		t.Errorf("700 open calls with a busy big one went %v, want about 300 to 400", got)
	}
}

// One call at a time, the way of a quiet app: small differences of load or weight must only tilt the choice.
func TestWeightedLoadSpreadsWhenLittleIsInFlight(t *testing.T) {
	for _, tc := range []struct {
		name    string
		cpu     []float64
		weights []uint32
		open    int
		least   float64 // share of an equal share that each must get
	}{
		{"nearly the same load", []float64{0.20, 0.21}, nil, 0, 0.85},
		{"six of nearly the same load", []float64{0.20, 0.21, 0.22, 0.23, 0.24, 0.25}, nil, 0, 0.75},
		{"nearly the same weight", []float64{0.5, 0.5}, []uint32{110, 100}, 0, 0.85},
		{"two in flight", []float64{0.20, 0.21, 0.22}, nil, 2, 0.75},
		{"eight in flight", []float64{0.20, 0.21, 0.22}, nil, 8, 0.75},
		{"idle and busy", []float64{0, 1}, nil, 0, 0.25},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRouter(t, func(c *routing.Config) { c.Policy = routing.WeightedLoad })
			var all []registry.Instance
			var loads []registry.LoadReport
			for i, cpu := range tc.cpu {
				in := inst("battle", fmt.Sprint(i), "ams")
				if tc.weights != nil {
					in.Weight = tc.weights[i]
				}
				all = append(all, in)
				loads = append(loads, registry.LoadReport{Key: in.Key(), Load: registry.Load{CPU: cpu}})
			}
			r.Update(view(all...))
			for range 30 {
				r.Report(loads)
			}
			const calls = 6000
			got := make(map[string]int)
			var open []routing.Pick
			for range calls {
				p, err := r.Route(&routing.Call{Method: "/b.B/M"})
				if err != nil {
					t.Fatal(err)
				}
				got[p.Peer.Key.ID]++
				if open = append(open, p); len(open) > tc.open {
					open[0].Done(routing.Answered)
					open = open[1:]
				}
			}
			for _, in := range all {
				if share := float64(got[in.ID]) * float64(len(all)) / calls; share < tc.least {
					t.Errorf("%s got %.2f of an equal share, want %.2f at the least: %v", in.ID, share, tc.least, got)
				}
			}
		})
	}
}

func TestOldLoadReportsAreForgotten(t *testing.T) {
	now := time.Now()
	r := newRouter(t, func(c *routing.Config) { c.Policy = routing.WeightedLoad; c.Now = func() time.Time { return now } })
	busy, idle := inst("battle", "busy", "ams"), inst("battle", "idle", "ams")
	r.Update(view(busy, idle))
	for range 30 {
		r.Report([]registry.LoadReport{{Key: busy.Key(), Load: registry.Load{CPU: 1}}, {Key: idle.Key(), Load: registry.Load{CPU: 0}}})
	}
	if got := spread(t, r, 4000); got["busy"] > 1550 {
		t.Errorf("with fresh reports: %v", got)
	}
	now = now.Add(2 * time.Minute)
	if got := spread(t, r, 4000); got["busy"] < 1800 || got["busy"] > 2200 {
		t.Errorf("two minutes after the last report: %v", got)
	}
}

func TestReportedLoadIsClamped(t *testing.T) {
	r := newRouter(t, func(c *routing.Config) { c.Policy = routing.WeightedLoad })
	a, b := inst("battle", "a", "ams"), inst("battle", "b", "ams")
	r.Update(view(a, b))
	for range 50 {
		r.Report([]registry.LoadReport{{Key: a.Key(), Load: registry.Load{CPU: 1e300}}, {Key: b.Key(), Load: registry.Load{CPU: -1e300}}})
	}
	var open []routing.Pick
	got := make(map[string]int)
	for range 500 {
		p, err := r.Route(&routing.Call{Method: "/b.B/M"})
		if err != nil {
			t.Fatal(err)
		}
		got[p.Peer.Key.ID]++
		open = append(open, p)
	}
	if got["a"] < 80 {
		t.Errorf("an absurd report starved a peer: %v", got)
	}
	for _, p := range open {
		p.Done(routing.Answered)
	}
}

func TestRefusingPeerIsBackedOffAndTheCallGoesOn(t *testing.T) {
	for _, policy := range routing.Policies() {
		t.Run(policy, func(t *testing.T) {
			now := time.Now()
			r := newRouter(t, func(c *routing.Config) { c.Policy = policy; c.Now = func() time.Time { return now } })
			r.Update(view(inst("battle", "dead", "ams"), inst("battle", "live", "ams")))
			for range 20 {
				if got := refuse(t, r, "dead"); got != "live" {
					t.Fatalf("went to %s", got)
				}
			}
			if got := spread(t, r, 50); got["dead"] != 0 {
				t.Errorf("a backed-off peer got calls: %v", got)
			}
			if !r.Peers()[registry.Key{Service: "battle", ID: "dead"}].BackedOff {
				t.Error("status does not show the backoff")
			}
			// When the backoff is over one call tries it; its answer brings the peer back.
			now = now.Add(time.Minute)
			probes := 0
			var probe routing.Pick
			for range 50 {
				p, err := r.Route(&routing.Call{Method: "/b.B/M"})
				if err != nil {
					t.Fatal(err)
				}
				if p.Peer.Key.ID == "dead" {
					probes++
					probe = p
					continue
				}
				p.Done(routing.Answered)
			}
			if probes != 1 {
				t.Fatalf("%d calls probed the peer at once, want 1", probes)
			}
			probe.Done(routing.Answered)
			if got := spread(t, r, 50); got["dead"] == 0 {
				t.Errorf("the peer is back and gets nothing: %v", got)
			}
		})
	}
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	now := time.Now()
	r := newRouter(t, func(c *routing.Config) { c.Now = func() time.Time { return now } })
	r.Update(view(inst("battle", "dead", "ams"), inst("battle", "live", "ams")))
	prev := time.Duration(0)
	for i := range 12 {
		start := now
		refuse(t, r, "dead")
		refuse(t, r, "dead") // round robin: one of two calls meets it
		for {
			p, err := r.Route(&routing.Call{Method: "/b.B/M"})
			if err != nil {
				t.Fatal(err)
			}
			if p.Peer.Key.ID == "dead" {
				p.Done(routing.Canceled)
				break
			}
			p.Done(routing.Answered)
			now = now.Add(time.Millisecond)
		}
		waited := now.Sub(start)
		if waited > 13*time.Second || (i > 0 && i < 5 && waited < prev) {
			t.Errorf("refusal %d was followed by a backoff of %v after %v", i+1, waited, prev)
		}
		prev = waited
		now = now.Add(2 * time.Second) // the probe's second of grace
	}
	if prev < 8*time.Second {
		t.Errorf("the backoff ended at %v, want about 10 s", prev)
	}
}

func TestAllBackedOffTriesRatherThanGivesUp(t *testing.T) {
	r := newRouter(t)
	r.Update(view(inst("battle", "a", "ams"), inst("battle", "b", "fra")))
	c := &routing.Call{Method: "/b.B/M"}
	for range 2 {
		p, err := r.Route(c)
		if err != nil {
			t.Fatal(err)
		}
		p.Done(routing.Refused)
	}
	_, err := r.Route(c)
	var e *routing.Error
	if !errors.As(err, &e) || e.Code != routing.Unavailable {
		t.Fatalf("after all refused: %v", err)
	}
	if want := "No gRPC instances available for service battle: 2 known, 0 healthy, 1 in region ams"; e.Message != want {
		t.Errorf("message\n%s, want\n%s", e.Message, want)
	}
	p, err := r.Route(&routing.Call{Method: "/b.B/M"})
	if err != nil || p.Reason != routing.ReasonLastResort {
		t.Fatalf("the next call should still try somebody: %v %v", p.Reason, err)
	}
	p.Done(routing.Answered)
	if got := spread(t, r, 5); got[p.Peer.Key.ID] != 5 {
		t.Errorf("the one that answered gets the calls: %v", got)
	}
}

func TestServiceIsFoundByHeaderRouteOrRegisteredName(t *testing.T) {
	web := inst("web", "w", "ams")
	web.GRPCServices = []string{"web.Pages"}
	chat := inst("chat", "c", "ams")
	chat.GRPCServices = []string{"chat.Chat", "battle.Battle"}
	battle := inst("battle", "b", "ams")
	battle.GRPCServices = []string{"battle.Battle"}
	r := newRouter(t, func(c *routing.Config) {
		c.Routes = []routing.Route{{Prefix: "/old.", Service: "battle"}, {Prefix: "/old.Chat/", Service: "chat"}}
	})
	r.Update(view(web, chat, battle))
	for _, tc := range []struct{ method, header, want string }{
		{"/web.Pages/Get", "", "w"},
		{"/chat.Chat/Say", "", "c"},
		{"/battle.Battle/Hit", "", "b"}, // two registered it: our own wins
		{"/unknown.Thing/Do", "", "b"},
		{"/old.Thing/Do", "", "b"},
		{"/old.Chat/Do", "", "c"},
		{"/battle.Battle/Hit", "chat", "c"},
		{"/nonsense", "", "b"},
		{"", "", "b"},
	} {
		c := &routing.Call{Method: tc.method}
		if tc.header != "" && !r.Take(c, "flyproxy-service", tc.header) {
			t.Error("the service header was not taken")
		}
		if got := route(t, r, c); got != tc.want {
			t.Errorf("%q with header %q went to %s, want %s", tc.method, tc.header, got, tc.want)
		}
	}
	if r.Take(&routing.Call{}, "x-mine", "1") || r.Take(&routing.Call{}, "", "1") {
		t.Error("a header that steers nothing was consumed")
	}
}

func TestForceInstance(t *testing.T) {
	r := newRouter(t)
	r.Update(view(inst("battle", "a", "ams"), inst("battle", "b", "syd")))
	force := func(id string) *routing.Call {
		c := &routing.Call{Method: "/b.B/M"}
		r.Take(c, "fly-force-instance-id", id)
		return c
	}
	if got := route(t, r, force("b")); got != "b" {
		t.Errorf("forced to b, went to %s", got)
	}
	if _, err := r.Route(force("gone")); err == nil || !strings.Contains(err.Error(), `No gRPC instance "gone"`) {
		t.Errorf("forced to an unknown one: %v", err)
	}
	c := force("b")
	p, err := r.Route(c)
	if err != nil {
		t.Fatal(err)
	}
	p.Done(routing.Refused)
	if _, err := r.Route(c); err == nil || !strings.Contains(err.Error(), "did not take the call") {
		t.Errorf("a pinned call went elsewhere or got %v", err)
	}
	if got := route(t, r, force("b")); got != "b" {
		t.Errorf("a pin to a backed-off instance still tries it, went to %s", got)
	}
}

func TestManyCallsWaitingForOneConnectionCountAsOneRefusal(t *testing.T) {
	now := time.Now()
	r := newRouter(t, func(c *routing.Config) { c.Now = func() time.Time { return now } })
	dead := inst("battle", "dead", "ams")
	r.Update(view(dead))
	calls := make([]routing.Call, 10)
	picks := make([]routing.Pick, len(calls))
	for i := range calls {
		calls[i].Method = "/b.B/M"
		p, err := r.Route(&calls[i])
		if err != nil {
			t.Fatal(err)
		}
		picks[i] = p
	}
	for i := range picks {
		picks[i].Done(routing.Refused)
	}
	if got := r.Peers()[dead.Key()].Refusals; got != 1 {
		t.Errorf("%d refusals were counted, want 1", got)
	}
	now = now.Add(time.Second)
	p, err := r.Route(&routing.Call{Method: "/b.B/M"})
	if err != nil {
		t.Fatal(err)
	}
	p.Done(routing.Refused)
	if got := r.Peers()[dead.Key()].Refusals; got != 2 {
		t.Errorf("the probe's refusal makes %d, want 2", got)
	}
}

func TestConnectingIsNoAnswer(t *testing.T) {
	now := time.Now()
	r := newRouter(t, func(c *routing.Config) { c.Now = func() time.Time { return now } })
	r.Update(view(inst("battle", "flapping", "ams"), inst("battle", "well", "ams")))
	var flapping *routing.Peer
	for _, p := range r.Known() {
		if p.Key.ID == "flapping" {
			flapping = p
		}
	}
	// It accepts, and hangs up before it answers, again and again: it is tried once each time and otherwise left alone.
	for range 5 {
		r.Refuse(flapping)
		now = now.Add(time.Minute)
		r.Connected(flapping)
		tried := 0
		for range 20 {
			p, err := r.Route(&routing.Call{Method: "/b.B/M"})
			if err != nil {
				t.Fatal(err)
			}
			if p.Peer == flapping {
				tried++
				p.Done(routing.Lost)
				continue
			}
			p.Done(routing.Answered)
		}
		if tried != 1 {
			t.Errorf("tried %d times", tried)
		}
	}
	if got := r.Peers()[flapping.Key].Refusals; got != 5 {
		t.Errorf("%d refusals counted, want 5", got)
	}
	// A stream that has begun to answer is enough.
	now = now.Add(time.Minute)
	p, err := r.Route(&routing.Call{Method: "/b.B/M", ForceInstance: "flapping"})
	if err != nil {
		t.Fatal(err)
	}
	p.Responding()
	if flapping.BackedOff() {
		t.Error("it answers and is still backed off")
	}
	p.Done(routing.Answered)
}

func TestPinToADrainingInstance(t *testing.T) {
	r := newRouter(t)
	a := inst("battle", "a", "ams")
	a.State = registry.Draining
	r.Update(view(a, inst("battle", "b", "ams")))
	_, err := r.Route(&routing.Call{Method: "/b.B/M", ForceInstance: "a"})
	var e *routing.Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, "is draining (2 known)") || e.Service != "battle" || r.Unroutable() != 1 {
		t.Errorf("got %v, service %q, unroutable %d", err, e.Service, r.Unroutable())
	}
}

func TestUnprocessedCallGoesElsewhereWithoutBackoff(t *testing.T) {
	r := newRouter(t)
	r.Update(view(inst("battle", "a", "ams"), inst("battle", "b", "ams")))
	c := &routing.Call{Method: "/b.B/M"}
	first, err := r.Route(c)
	if err != nil {
		t.Fatal(err)
	}
	first.Done(routing.Unprocessed)
	second, err := r.Route(c)
	if err != nil || second.Peer == first.Peer || second.Reason != routing.ReasonRetry {
		t.Fatalf("the call went to %v (%s) again: %v", second.Peer, second.Reason, err)
	}
	second.Done(routing.Answered)
	if r.Peers()[first.Peer.Key].BackedOff {
		t.Error("a peer that is well was backed off")
	}
}

// A call that looks around once more comes back to who had no room for it, and not to who cannot be reached.
func TestForgetUnprocessedKeepsRefusals(t *testing.T) {
	r := newRouter(t)
	r.Update(view(inst("battle", "a", "ams"), inst("battle", "b", "ams")))
	c := &routing.Call{Method: "/b.B/M"}
	var last routing.Pick
	for _, o := range []routing.Outcome{routing.Refused, routing.Unprocessed} {
		var err error
		if last, err = r.Route(c); err != nil {
			t.Fatal(err)
		}
		last.Done(o)
	}
	if p, err := r.Route(c); err == nil {
		t.Fatalf("%v is offered again", p.Peer)
	}
	c.ForgetUnprocessed()
	again, err := r.Route(c)
	if err != nil || again.Peer != last.Peer {
		t.Fatalf("got %v, want %v: %v", again.Peer, last.Peer, err)
	}
	again.Done(routing.Refused)
	if p, err := r.Route(c); err == nil {
		t.Errorf("%v is offered again", p.Peer)
	}
}

func TestDrainingGetsNoNewCallsAndKeepsItsOld(t *testing.T) {
	r := newRouter(t)
	var removed []string
	r.OnRemove(func(p *routing.Peer) { removed = append(removed, p.Key.ID) })
	a, b := inst("battle", "a", "ams"), inst("battle", "b", "ams")
	r.Update(view(a, b))
	a.State = registry.Draining
	r.Update(view(a, b))
	if got := spread(t, r, 10); got["b"] != 10 || len(removed) != 0 {
		t.Errorf("with a draining: %v, removed %v", got, removed)
	}
	r.Update(view(b))
	if len(removed) != 1 || removed[0] != "a" {
		t.Errorf("removed %v", removed)
	}
	b.Incarnation = "2"
	r.Update(view(b))
	if len(removed) != 2 {
		t.Errorf("a new incarnation is a new peer; removed %v", removed)
	}
}

func TestNoService(t *testing.T) {
	r := newRouter(t, func(c *routing.Config) { c.Service = "" })
	_, err := r.Route(&routing.Call{Method: "/b.B/M"})
	if err == nil || !strings.Contains(err.Error(), "nothing says which service answers /b.B/M") {
		t.Errorf("got %v", err)
	}
	if _, err := routing.New(routing.Config{Policy: "fastest"}); err == nil || !strings.Contains(err.Error(), "weighted_load") {
		t.Errorf("an unknown policy: %v", err)
	}
}

func TestWantedNamesTheNearestTierInTurns(t *testing.T) {
	r := newRouter(t, func(c *routing.Config) { c.Policy = routing.WeightedLoad })
	var all []registry.Instance
	for i := range 50 {
		all = append(all, inst("battle", fmt.Sprintf("i%02d", i), "ams"), inst("battle", fmt.Sprintf("far%02d", i), "syd"))
	}
	r.Update(view(all...))
	if w := r.Wanted(registry.MaxAsk); len(w) != 0 {
		t.Errorf("nobody called and %d loads are wanted", len(w))
	}
	spread(t, r, 1)
	seen := make(map[string]bool)
	for range 4 {
		w := r.Wanted(registry.MaxAsk)
		if len(w) != registry.MaxAsk {
			t.Fatalf("%d wanted", len(w))
		}
		for _, k := range w {
			seen[k.ID] = true
		}
	}
	if len(seen) != 50 {
		t.Errorf("in four beats %d of the 50 near ones were asked about", len(seen))
	}
}

func TestConcurrentCallsAndUpdates(t *testing.T) {
	for _, policy := range routing.Policies() {
		r := newRouter(t, func(c *routing.Config) { c.Policy = policy })
		a, b, c := inst("battle", "a", "ams"), inst("battle", "b", "ams"), inst("battle", "c", "syd")
		r.Update(view(a, b, c))
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := range 2000 {
					p, err := r.Route(&routing.Call{Method: "/b.B/M"})
					if err != nil {
						t.Error(err)
						return
					}
					p.Done(routing.Outcome(1 + (i+g)%4))
				}
			}()
		}
		for i := range 200 {
			r.Update(view([][]registry.Instance{{a, b, c}, {a, c}, {b, c}}[i%3]...))
			r.Report([]registry.LoadReport{{Key: a.Key(), Load: registry.Load{CPU: 0.5}}})
		}
		wg.Wait()
		r.Update(view(a, b, c))
		for k, s := range r.Peers() {
			if s.InFlight != 0 {
				t.Errorf("%s: %s ends with %d in flight", policy, k, s.InFlight)
			}
		}
		// Whatever came in which order: who answers now is well now.
		for _, p := range r.Known() {
			call := &routing.Call{Method: "/b.B/M", ForceInstance: p.Key.ID}
			pick, err := r.Route(call)
			if err != nil {
				t.Fatal(err)
			}
			pick.Done(routing.Answered)
			if p.BackedOff() {
				t.Errorf("%s: %s answered and is still backed off", policy, p.Key)
			}
		}
		for id, n := range spread(t, r, 300) {
			if n == 0 {
				t.Errorf("%s: %s gets nothing", policy, id)
			}
		}
	}
}

func TestRouteDoesNotAllocate(t *testing.T) {
	for _, policy := range routing.Policies() {
		r := newRouter(t, func(c *routing.Config) { c.Policy = policy })
		r.Update(many(1000))
		c := &routing.Call{Method: "/b.B/M"}
		if n := testing.AllocsPerRun(1000, func() {
			p, err := r.Route(c)
			if err != nil {
				t.Fatal(err)
			}
			p.Done(routing.Answered)
		}); n != 0 {
			t.Errorf("%s: %v allocations a pick", policy, n)
		}
	}
}

func many(n int) *registry.View {
	var all []registry.Instance
	for i := range n {
		all = append(all, inst("battle", fmt.Sprintf("i%05d", i), "ams"))
	}
	return view(all...)
}

func BenchmarkRoute(b *testing.B) {
	for _, policy := range routing.Policies() {
		b.Run(policy+"/10000", func(b *testing.B) {
			r := newRouter(b, func(c *routing.Config) { c.Policy = policy })
			r.Update(many(10_000))
			b.ReportAllocs()
			c := routing.Call{Method: "/b.B/M"}
			for b.Loop() {
				p, err := r.Route(&c)
				if err != nil {
					b.Fatal(err)
				}
				p.Done(routing.Answered)
			}
		})
	}
}

func BenchmarkRouteParallel(b *testing.B) {
	for _, policy := range routing.Policies() {
		b.Run(policy+"/1000", func(b *testing.B) {
			r := newRouter(b, func(c *routing.Config) { c.Policy = policy })
			r.Update(many(1000))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				c := routing.Call{Method: "/b.B/M"}
				for pb.Next() {
					p, err := r.Route(&c)
					if err != nil {
						b.Error(err)
						return
					}
					p.Done(routing.Answered)
				}
			})
		})
	}
}

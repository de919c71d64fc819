package routing_test

import (
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// excluding excludes the instances at an address.
func excluding(address string) option {
	return func(c *routing.Config) {
		c.Excluded = func(in *registry.Instance) string {
			if in.Address == address {
				return "it is us"
			}
			return ""
		}
	}
}

// An instance that is excluded gets no calls by any way: not by policy, not as a last resort, not by name, not by what it says to answer.
func TestExcludedInstancesGetNoCalls(t *testing.T) {
	const us = "10.0.0.9:50052"
	self, other := inst("battle", "a-self", "ams"), inst("battle", "other", "syd")
	self.Address, self.GRPCServices = us, []string{"only.Here"}
	foreign := inst("aardvark", "x", "ams") // which would come first by name
	foreign.Address, foreign.GRPCServices = us, []string{"b.B"}
	r := newRouter(t, excluding(us))
	r.Update(view(self, other, foreign))
	if got := spread(t, r, 100); got["other"] != 100 {
		t.Errorf("%v", got)
	}
	c := &routing.Call{Method: "/b.B/M"}
	p, err := r.Route(c)
	if err != nil {
		t.Fatal(err)
	}
	p.Done(routing.Refused)
	if p, err := r.Route(c); err == nil {
		t.Errorf("when the other one refuses, %s takes the call", p.Peer.Key)
	}
	_, err = r.Route(&routing.Call{Method: "/b.B/M", ForceInstance: "a-self"})
	if err == nil || !strings.Contains(err.Error(), "gets no calls from here (it is us)") {
		t.Errorf("by name: %v", err)
	}
	if _, err := r.Route(&routing.Call{Method: "/only.Here/M", Service: "aardvark"}); err == nil ||
		!strings.Contains(err.Error(), `1 known, 0 healthy, 1 in region ams; 1 get no calls from here, such as "x": it is us`) {
		t.Errorf("nobody else: %v", err)
	}
	if got := r.Excluded(); len(got) != 2 || got[0].Key.Service != "aardvark" || got[1].Key.ID != "a-self" || got[1].Why != "it is us" {
		t.Errorf("%v", got)
	}
	for key := range r.Peers() {
		if key.ID != "other" {
			t.Errorf("%s is a peer", key)
		}
	}
	self.Address = "10.0.0.1:1" // somebody has put it right
	r.Update(view(self, other))
	if got := spread(t, r, 100); got["a-self"] != 100 || len(r.Excluded()) != 0 {
		t.Errorf("%v, excluded %v", got, r.Excluded())
	}
}

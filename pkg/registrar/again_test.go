package registrar_test

import (
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/registrar"
)

// A new process finds the advertised address answered by the inbound listener of the one before, which then ends.
func TestTakesTheAddressOverFromAnEarlierProcess(t *testing.T) {
	l := echo(t, "127.0.0.1:0")
	advertised := onV6(l.Addr().String())
	first := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
	first.awaitPhase(t, registrar.Registered)

	second := &running{store: first.store}
	second.beater = startBeater(t, registrar.BeaterConfig{Store: second.store, Logger: second.logs.logger()})
	second.start(t, l.Addr().String(), advertised, func(c *registrar.Config) {
		withoutHealth(c)
		c.Instance.Incarnation = "second"
	})
	second.awaitPhase(t, registrar.Registered)
	if second.Status().Inbound.Listening || !first.Status().Inbound.Listening {
		t.Fatalf("first %+v\nsecond %+v", first.Status(), second.Status())
	}
	if err := first.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.stop()
	t.Logf("taken over after %v", await(t, "the second one listens\n"+second.logs.String(), func() bool {
		return second.Status().Inbound.Listening
	}))
	talk(t, dialTCP(t, advertised))
	if s := second.Status(); s.Registration.Phase != registrar.Registered || s.Reason != "" {
		t.Errorf("status %+v", s)
	}
	var held string
	second.store.do(func() { held = second.store.records[key("m1")].inst.Incarnation })
	if held != "second" || len(second.store.registrations()) != 2 {
		t.Errorf("the record is by %q after %d registrations", held, len(second.store.registrations()))
	}
}

// What listened at the advertised address goes, and the sidecar may not take its place.
func TestRegisteredAddressThatNobodyServesAnyMore(t *testing.T) {
	a, _ := startHealthy(t, "127.0.0.1:0")
	advertised := onV6(a.address)
	other := startRude(t, advertised)
	r := startRegistrar(t, a.address, advertised, func(c *registrar.Config) { c.Inbound = registrar.InboundNever })
	r.awaitPhase(t, registrar.Registered)
	await(t, "probed again, twice", func() bool { return other.accepted.Load() >= 3 })
	if n := len(r.store.registrations()); n != 1 || r.Status().Registration.Phase != registrar.Registered {
		t.Errorf("%d registrations, status %+v", n, r.Status())
	}
	other.Close()
	t.Logf("withdrawn after %v", r.awaitPhase(t, registrar.Withdrawn))
	await(t, "a reason", func() bool { return r.Status().Reason != "" })
	for _, want := range []string{advertised, "connection refused", "registration.address"} {
		if reason := r.Status().Reason; !strings.Contains(reason, want) {
			t.Errorf("reason %q does not say %q", reason, want)
		}
	}
	if r.store.holds(key("m1")) || r.logs.count("level=ERROR") != 1 {
		t.Errorf("held %v, log:\n%s", r.store.holds(key("m1")), r.logs.String())
	}
	startRude(t, advertised)
	r.awaitPhase(t, registrar.Registered)
}

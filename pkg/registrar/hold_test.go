package registrar_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/flyproxy/flyproxy/pkg/registrar"
)

const someone registrar.Holder = "by a test"

// What one has withdrawn another does not bring back.
func TestEachHolderLetsGoByHimself(t *testing.T) {
	a, _ := startHealthy(t, "127.0.0.1:0")
	r := startRegistrar(t, a.address, a.address, nil)
	r.awaitPhase(t, registrar.Registered)
	const other registrar.Holder = "by another"
	for _, by := range []registrar.Holder{someone, other, someone} {
		if err := r.Hold(t.Context(), by); err != nil {
			t.Fatal(err)
		}
	}
	if s := r.Status(); s.Reason != "withdrawn by a test, by another" || !s.Held {
		t.Errorf("%+v", s)
	}
	for range 2 { // the second time for nothing
		if err := r.Release(t.Context(), someone); err != nil {
			t.Fatal(err)
		}
	}
	if s := r.Status(); s.Reason != "withdrawn by another" || !s.Held || len(r.store.registrations()) != 1 {
		t.Errorf("%+v", s)
	}
	if err := r.Release(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	r.awaitPhase(t, registrar.Registered)
}

// Polled by TCP, an app is found dead at the next poll only. Who knows that its process has ended must not have it registered, nor
// listened for, until the new one answers.
func TestForgottenAppIsAskedAnew(t *testing.T) {
	l := echo(t, "127.0.0.1:0")
	advertised := onV6(l.Addr().String())
	r := startRegistrar(t, l.Addr().String(), advertised, func(c *registrar.Config) {
		c.Health = registrar.HealthConfig{Mode: registrar.HealthTCP, Interval: neverPolled}
	})
	r.awaitPhase(t, registrar.Registered)
	if err := r.Hold(t.Context(), someone); err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	if err := r.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Release(t.Context(), someone); err != nil {
		t.Fatal(err)
	}
	await(t, "not listening for an app that is not there", func() bool { return !r.Status().Inbound.Listening })
	if n := len(r.store.registrations()); n != 1 || r.Status().Health.Healthy {
		t.Errorf("registered %d times, %+v", n, r.Status())
	}
	echo(t, address)
	r.awaitPhase(t, registrar.Registered)
	if s := r.Status(); !s.Inbound.Listening {
		t.Errorf("%+v", s)
	}
}

func TestHoldKeepsAHealthyAppOutAndItsConnectionsOpen(t *testing.T) {
	l := echo(t, "127.0.0.1:0")
	advertised := onV6(l.Addr().String())
	r := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
	r.awaitPhase(t, registrar.Registered)
	before := dialTCP(t, advertised)
	talk(t, before)
	for range 2 { // the second one finds all done
		if err := r.Hold(t.Context(), someone); err != nil {
			t.Fatal(err)
		}
		r.awaitPhase(t, registrar.Withdrawn) // is published after Hold has its answer
		if s := r.Status(); r.store.holds(key("m1")) || s.Reason != "withdrawn by a test" {
			t.Fatalf("held: %+v", s)
		}
	}
	talk(t, before)
	talk(t, dialTCP(t, advertised)) // from a peer that has not learnt of it yet
	if n := len(r.store.registrations()); n != 1 {
		t.Errorf("registered %d times", n)
	}
	if err := r.Release(t.Context(), someone); err != nil {
		t.Fatal(err)
	}
	r.awaitPhase(t, registrar.Registered)
	if s := r.Status(); s.Reason != "" || !s.Inbound.Listening {
		t.Errorf("released: %+v", s)
	}
	talk(t, before)
}

// An app that dies while it is held must find its address free when it starts again, and stays out until Release.
func TestHoldOutlastsARestartOfTheApp(t *testing.T) {
	a, _ := startHealthy(t, "127.0.0.1:0")
	advertised := onV6(a.address)
	r := startRegistrar(t, a.address, advertised, nil)
	r.awaitPhase(t, registrar.Registered)
	if err := r.Hold(t.Context(), someone); err != nil {
		t.Fatal(err)
	}
	if !r.Status().Inbound.Listening {
		t.Error("not listening for an app that is only held")
	}
	a.Stop()
	await(t, "told", func() bool { return strings.Contains(r.logs.String(), "after it was withdrawn") })
	if strings.Contains(r.logs.String(), "level=WARN") {
		t.Errorf("the end of a withdrawn app is warned of:\n%s", r.logs.String())
	}
	await(t, "the advertised address is free", func() bool { return !r.Status().Inbound.Listening })
	_, h := startHealthy(t, a.address)
	await(t, "healthy again", func() bool { return r.Status().Health.Healthy })
	// Health turns twice more; what the loop has taken in by then includes the first.
	h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	await(t, "unhealthy", func() bool { return r.Status().Health.State() == "unhealthy" })
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	await(t, "healthy", func() bool { return r.Status().Health.Healthy })
	if err := r.Hold(t.Context(), someone); err != nil { // goes through the loop
		t.Fatal(err)
	}
	if n := len(r.store.registrations()); n != 1 || r.Status().Reason != "withdrawn by a test" {
		t.Errorf("registered %d times, reason %q", n, r.Status().Reason)
	}
	if err := r.Release(t.Context(), someone); err != nil {
		t.Fatal(err)
	}
	r.awaitPhase(t, registrar.Registered)
}

func TestHoldWithoutRegistryIsBoundedAndGoesOn(t *testing.T) {
	a, _ := startHealthy(t, "127.0.0.1:0")
	r := startRegistrar(t, a.address, a.address, nil)
	r.awaitPhase(t, registrar.Registered)
	hang := make(chan struct{})
	r.store.do(func() { r.store.hang = hang })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Hold(ctx, someone); !errors.Is(err, registrar.ErrNotWithdrawn) {
		t.Errorf("Hold gave %v", err)
	}
	// Whether the loop took it or the context's end was first is open; asked once more, it has.
	asked, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Hold(asked, someone) }()
	r.awaitPhase(t, registrar.Withdrawing)
	stop()
	if err := <-done; !errors.Is(err, registrar.ErrNotWithdrawn) || !errors.Is(err, context.Canceled) {
		t.Errorf("Hold gave %v", err)
	}
	r.store.do(func() { r.store.hang = nil })
	close(hang)
	r.awaitPhase(t, registrar.Withdrawn)
}

func TestHoldDuringAndAfterADrain(t *testing.T) {
	a, _ := startHealthy(t, "127.0.0.1:0")
	r := startRegistrar(t, a.address, a.address, nil)
	r.awaitPhase(t, registrar.Registered)
	if err := r.Hold(t.Context(), someone); err != nil {
		t.Fatal(err)
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Hold(t.Context(), someone); err != nil {
		t.Errorf("Hold after Drain: %v", err)
	}
	if err := r.Release(t.Context(), someone); err == nil {
		t.Error("a drained app was released")
	}
	if s := r.Status(); s.Reason != "draining" || r.store.holds(key("m1")) {
		t.Errorf("%+v", s)
	}
}

// Who stops has waited for the registry once already, before the app was told to end.
func TestDrainDoesNotWaitAgainForARegistryThatMissedAHold(t *testing.T) {
	a, _ := startHealthy(t, "127.0.0.1:0")
	r := startRegistrar(t, a.address, a.address, nil)
	r.awaitPhase(t, registrar.Registered)
	hang := make(chan struct{})
	defer close(hang)
	r.store.do(func() { r.store.hang = hang })
	asked, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Hold(asked, someone) }()
	r.awaitPhase(t, registrar.Withdrawing)
	stop()
	<-done
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	go func() { done <- r.Drain(ctx) }()
	select {
	case err := <-done:
		if !errors.Is(err, registrar.ErrNotWithdrawn) {
			t.Errorf("Drain gave %v", err)
		}
	case <-time.After(patience):
		t.Error("Drain still waits for the registry")
		cancel()
		<-done
	}
}

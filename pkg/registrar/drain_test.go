package registrar_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registrar"
)

// talk shows that c still leads to an echo.
func talk(t *testing.T, c net.Conn) {
	t.Helper()
	io.WriteString(c, "ping")
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ping" {
		t.Errorf("echo %q, %v", buf, err)
	}
}

func TestDrainDeregistersFirstAndKeepsConnections(t *testing.T) {
	l := echo(t, "127.0.0.1:0")
	advertised := onV6(l.Addr().String())
	r := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
	r.awaitPhase(t, registrar.Registered)
	c := dialTCP(t, advertised)
	talk(t, c)
	var drained atomic.Bool
	done := make(chan error, 1)
	go func() {
		err := r.Drain(context.Background())
		drained.Store(true)
		done <- err
	}()
	r.awaitPhase(t, registrar.Withdrawn)
	await(t, "listener closed", func() bool { return !r.Status().Inbound.Listening })
	talk(t, c)
	if drained.Load() || r.Status().Reason != "draining" {
		t.Errorf("drained %v, reason %q", drained.Load(), r.Status().Reason)
	}
	c.CloseWrite()
	if rest, err := io.ReadAll(c); err != nil || string(rest) != "last word" {
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Errorf("a second Drain: %v", err)
	}
}

func TestDrainIsBounded(t *testing.T) {
	l := echo(t, "127.0.0.1:0")
	advertised := onV6(l.Addr().String())
	r := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
	r.awaitPhase(t, registrar.Registered)
	c := dialTCP(t, advertised)
	talk(t, c)
	hang := make(chan struct{})
	r.store.do(func() { r.store.hang = hang })
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := r.Drain(ctx)
	if d := time.Since(began); d < 300*time.Millisecond || d > patience {
		t.Errorf("Drain ended after %v", d)
	}
	for _, want := range []error{registrar.ErrNotWithdrawn, registrar.ErrConnectionsCut, context.DeadlineExceeded} {
		if !errors.Is(err, want) {
			t.Errorf("Drain gave %v, want %v in it", err, want)
		}
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection still stands")
	}
}

// A registry that does not answer must not use up the time that open connections have to end.
func TestDrainWithoutRegistryStillDrainsConnections(t *testing.T) {
	l := echo(t, "127.0.0.1:0")
	advertised := onV6(l.Addr().String())
	r := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
	r.awaitPhase(t, registrar.Registered)
	c := dialTCP(t, advertised)
	talk(t, c)
	hang := make(chan struct{})
	r.store.do(func() { r.store.hang = hang })
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Drain(ctx) }()
	t.Logf("the listener closed after %v", await(t, "listener closed", func() bool { return !r.Status().Inbound.Listening }))
	talk(t, c)
	c.CloseWrite()
	if rest, err := io.ReadAll(c); err != nil || string(rest) != "last word" {
		t.Errorf("%q, %v", rest, err)
	}
	await(t, "connection ended", func() bool { return r.Status().Inbound.Connections == 0 })
	select {
	case err := <-done:
		t.Errorf("Drain gave up on the registry before its time: %v", err)
	default:
	}
	cancel()
	if err := <-done; !errors.Is(err, registrar.ErrNotWithdrawn) || errors.Is(err, registrar.ErrConnectionsCut) {
		t.Errorf("Drain gave %v, want %v alone", err, registrar.ErrNotWithdrawn)
	}
}

func TestDrainWithdrawsBesideOnceTheRegistryIsBack(t *testing.T) {
	l := echo(t, "127.0.0.1:0")
	r := startRegistrar(t, l.Addr().String(), onV6(l.Addr().String()), withoutHealth)
	r.awaitPhase(t, registrar.Registered)
	hang := make(chan struct{})
	r.store.do(func() { r.store.hang = hang })
	done := make(chan error, 1)
	go func() { done <- r.Drain(context.Background()) }()
	await(t, "listener closed", func() bool { return !r.Status().Inbound.Listening })
	r.store.do(func() { r.store.hang = nil })
	close(hang)
	if err := <-done; err != nil || r.store.holds(key("m1")) {
		t.Errorf("Drain gave %v", err)
	}
}

// Where no connection was open, none was cut, however late it is.
func TestDrainOfNothingCutsNothing(t *testing.T) {
	for _, inbound := range []registrar.InboundMode{registrar.InboundNever, registrar.InboundAlways} {
		t.Run(string(inbound), func(t *testing.T) {
			l := echo(t, "127.0.0.1:0")
			advertised := l.Addr().String()
			if inbound == registrar.InboundAlways {
				advertised = onV6(advertised)
			}
			r := startRegistrar(t, l.Addr().String(), advertised, func(c *registrar.Config) {
				withoutHealth(c)
				c.Inbound = inbound
			})
			r.awaitPhase(t, registrar.Registered)
			await(t, "the probe ended", func() bool { return r.Status().Inbound.Connections == 0 })
			r.store.do(func() { r.store.hang = make(chan struct{}) })
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := r.Drain(ctx); !errors.Is(err, registrar.ErrNotWithdrawn) || errors.Is(err, registrar.ErrConnectionsCut) {
				t.Errorf("Drain gave %v, want %v alone", err, registrar.ErrNotWithdrawn)
			}
		})
	}
}

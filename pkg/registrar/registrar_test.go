package registrar_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/flyproxy/flyproxy/pkg/registrar"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// onV6 is the same port on the other loopback address: it stands for the Machine's private IPv6 address.
func onV6(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return net.JoinHostPort("::1", port)
}

type running struct {
	*registrar.Registrar
	store  *memory
	beater *registrar.Beater
	logs   logs
	stop   func() // ends Run and waits
}

func startRegistrar(t *testing.T, app, advertised string, change func(*registrar.Config)) *running {
	t.Helper()
	checkLeaks(t)
	r := &running{store: newMemory()}
	r.beater = startBeater(t, registrar.BeaterConfig{Store: r.store, Logger: r.logs.logger()})
	r.start(t, app, advertised, change)
	return r
}

func (r *running) start(t *testing.T, app, advertised string, change func(*registrar.Config)) {
	t.Helper()
	inst := instance("m1")
	inst.Address = advertised
	cfg := registrar.Config{
		App:      registrar.App{Name: "battle", Address: app, Service: "battle"},
		Instance: inst, Health: quick, Beater: r.beater, Logger: r.logs.logger(),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if r.Registrar, err = registrar.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(r.stop)
}

func (r *running) awaitPhase(t *testing.T, p registrar.Phase) time.Duration {
	t.Helper()
	return await(t, "registration "+string(p)+"\n"+r.logs.String(), func() bool { return r.Status().Registration.Phase == p })
}

func TestRegistersWhatIsHealthyAndTakesItBack(t *testing.T) {
	a, h := startHealthy(t, "127.0.0.1:0")
	h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	r := startRegistrar(t, a.address, a.address, func(c *registrar.Config) { c.Health.Interval = neverPolled })
	await(t, "unhealthy", func() bool { return r.Status().Health.State() == "unhealthy" })
	if s := r.Status(); s.Registration.Phase != registrar.Absent || !strings.Contains(s.Reason, "NOT_SERVING") {
		t.Errorf("status %+v", s)
	}
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	r.awaitPhase(t, registrar.Registered)
	if s := r.Status(); s.Reason != "" || s.Inbound.Listening || s.Service != "battle" || s.Address != a.address {
		t.Errorf("status %+v", s)
	}
	h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	r.awaitPhase(t, registrar.Withdrawn)
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	r.awaitPhase(t, registrar.Registered)
	a.Stop()
	t.Logf("deregistered %v after the crash", r.awaitPhase(t, registrar.Withdrawn))
	if r.store.holds(key("m1")) {
		t.Error("the record is still there")
	}
	startHealthy(t, a.address)
	r.awaitPhase(t, registrar.Registered)
}

func TestAsksForServicesByReflection(t *testing.T) {
	t.Run("asked", func(t *testing.T) {
		b := startBattle(t)
		r := startRegistrar(t, b.address, b.address, nil)
		r.awaitPhase(t, registrar.Registered)
		if got := r.store.registrations()[0].inst.GRPCServices; !slices.Equal(got, []string{"battle.v1.Battle"}) || len(r.store.registrations()) != 1 {
			t.Errorf("registered %d times, services %v", len(r.store.registrations()), got)
		}
	})
	t.Run("only v1alpha", func(t *testing.T) {
		b := startBattleV1Alpha(t)
		got, err := registrar.ListServices(t.Context(), b.address)
		if err != nil || !slices.Equal(got, []string{"battle.v1.Battle"}) {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("configured", func(t *testing.T) {
		b := startBattle(t)
		r := startRegistrar(t, b.address, b.address, func(c *registrar.Config) { c.GRPCServices = []string{"given"} })
		r.awaitPhase(t, registrar.Registered)
		if got := r.store.registrations()[0].inst.GRPCServices; !slices.Equal(got, []string{"given"}) {
			t.Errorf("services %v", got)
		}
	})
	t.Run("not answered", func(t *testing.T) {
		b, _ := startCheckOnly(t)
		r := startRegistrar(t, b.address, b.address, nil)
		r.awaitPhase(t, registrar.Registered)
		if got := r.store.registrations()[0].inst.GRPCServices; len(got) != 0 {
			t.Errorf("services %v", got)
		}
	})
}

// The app listens on IPv4 only; peers come over IPv6.
func TestListensForAnAppOnIPv4Only(t *testing.T) {
	a, h := startHealthy(t, "127.0.0.1:0")
	advertised := onV6(a.address)
	r := startRegistrar(t, a.address, advertised, nil)
	r.awaitPhase(t, registrar.Registered)
	if s := r.Status(); !s.Inbound.Listening {
		t.Errorf("status %+v", s)
	}
	got, err := registrar.ListServices(t.Context(), advertised) // a gRPC call through the splice
	if err != nil {
		t.Fatalf("%v, %v", got, err)
	}
	h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	r.awaitPhase(t, registrar.Withdrawn)
	await(t, "listener closed", func() bool { return !r.Status().Inbound.Listening })
	if err := registrar.Probe(t.Context(), advertised); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("probe while the app is unhealthy: %v", err)
	}
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	r.awaitPhase(t, registrar.Registered)
	if err := registrar.Probe(t.Context(), advertised); err != nil {
		t.Error(err)
	}

	// A crash frees the advertised address, so that an app that binds to [::] can have it.
	a.Stop()
	r.awaitPhase(t, registrar.Withdrawn)
	_, port, _ := net.SplitHostPort(a.address)
	startHealthy(t, "[::]:"+port)
	r.awaitPhase(t, registrar.Registered)
	if r.Status().Inbound.Listening {
		t.Error("still listening for an app that does so itself")
	}
}

// The app listens at the private address only, where 127.0.0.1 refuses.
func TestFindsAnAppAtTheAdvertisedAddress(t *testing.T) {
	a, _ := startHealthy(t, "[::1]:0")
	_, port, _ := net.SplitHostPort(a.address)
	local := net.JoinHostPort("127.0.0.1", port)
	r := startRegistrar(t, local, a.address, nil)
	r.awaitPhase(t, registrar.Registered)
	if s := r.Status(); s.AppAddress != a.address || s.Inbound.Listening {
		t.Errorf("status %+v", s)
	}
	a.Stop()
	r.awaitPhase(t, registrar.Withdrawn)
}

func TestUnreachableSaysWhyAndWhatToDo(t *testing.T) {
	for _, tt := range []struct {
		name       string
		inbound    registrar.InboundMode
		advertised func(app string) string
		taken      bool
		want       []string
	}{
		{"never", registrar.InboundNever, onV6, false,
			[]string{"connection refused", "bind the app to [::]", "apps[].inbound", "registration.address"}},
		{"not ours", registrar.InboundAuto, func(string) string { return "[fdaa:1:2:3::9]:50051" }, false,
			[]string{"no interface of this Machine has that address"}},
		{"always, taken", registrar.InboundAlways, onV6, true, []string{"address already in use", "set apps[].inbound to auto"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := startHealthy(t, "127.0.0.1:0")
			advertised := tt.advertised(a.address)
			var other net.Listener
			if tt.taken {
				other = listen(t, advertised)
				defer other.Close()
			}
			r := startRegistrar(t, a.address, advertised, func(c *registrar.Config) {
				c.Inbound, c.ProbeTimeout = tt.inbound, 200*time.Millisecond
			})
			await(t, "a reason", func() bool { return strings.Contains(r.Status().Reason, tt.want[0]) })
			reason := r.Status().Reason
			for _, w := range append(tt.want, a.address, advertised) {
				if !strings.Contains(reason, w) {
					t.Errorf("reason %q does not say %q", reason, w)
				}
			}
			if r.logs.count("level=ERROR") != 1 {
				t.Errorf("log:\n%s", r.logs.String())
			}
			if len(r.store.registrations()) != 0 {
				t.Error("registered")
			}
			switch tt.name { // it tries again
			case "never":
				l := listen(t, advertised)
				defer l.Close()
				r.awaitPhase(t, registrar.Registered)
			case "always, taken":
				other.Close()
				r.awaitPhase(t, registrar.Registered)
			}
		})
	}
}

func TestUnhealthyDoesNotWaitForASlowRegistry(t *testing.T) {
	a, _ := startHealthy(t, "127.0.0.1:0")
	r := startRegistrar(t, a.address, onV6(a.address), nil)
	r.awaitPhase(t, registrar.Registered)
	hang := make(chan struct{})
	r.store.do(func() { r.store.hang = hang })
	a.Stop()
	t.Logf("the listener closed after %v", await(t, "listener closed", func() bool { return !r.Status().Inbound.Listening }))
	r.awaitPhase(t, registrar.Withdrawing)
	r.store.do(func() { r.store.hang = nil })
	close(hang)
	r.awaitPhase(t, registrar.Withdrawn)
}

func TestRegistrarLifecycle(t *testing.T) {
	a, _ := startHealthy(t, "127.0.0.1:0")
	r := startRegistrar(t, a.address, onV6(a.address), nil)
	r.awaitPhase(t, registrar.Registered)
	if err := r.Run(t.Context()); err == nil {
		t.Error("a second Run was accepted")
	}
	r.stop() // without Drain, as in a hard end: the lease is left to end the registration
	if !r.store.holds(key("m1")) {
		t.Error("the end of Run deregistered")
	}
	if err := registrar.Probe(t.Context(), onV6(a.address)); err == nil {
		t.Error("still listening after the end of Run")
	}
	if err := r.Drain(t.Context()); err != nil || r.store.holds(key("m1")) {
		t.Errorf("Drain after Run: %v", err)
	}
}

func TestNewRefusesBadConfig(t *testing.T) {
	b, err := registrar.NewBeater(registrar.BeaterConfig{Store: newMemory()})
	if err != nil {
		t.Fatal(err)
	}
	valid := registrar.Config{App: registrar.App{Address: "127.0.0.1:1", Service: "battle"},
		Instance: registry.Instance{ID: "m1", Address: "[::1]:1"}, Beater: b}
	if _, err := registrar.New(valid); err != nil {
		t.Errorf("valid: %v", err)
	}
	for want, change := range map[string]func(*registrar.Config){
		"auto, always or never": func(c *registrar.Config) { c.Inbound = "sometimes" },
		"not host:port":         func(c *registrar.Config) { c.Instance.Address = "here" },
		"app address":           func(c *registrar.Config) { c.App.Address = "" },
		"no beater":             func(c *registrar.Config) { c.Beater = nil },
		"no id":                 func(c *registrar.Config) { c.Instance.ID = "" },
		"health mode":           func(c *registrar.Config) { c.Health.Mode = "x" },
	} {
		bad := valid
		change(&bad)
		if _, err := registrar.New(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

package doctor_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// answering is a host whose admin listener answers, as that of a sidecar in a state that is hard to bring one into.
func answering(t *testing.T, st admin.Status, ready admin.Readiness, env ...string) *host {
	t.Helper()
	lis := listen(t)
	s, err := admin.New(admin.Config{
		Listener: lis, Status: func(context.Context) admin.Status { return st }, Ready: func() admin.Readiness { return ready },
		Metrics: http.NotFoundHandler(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s.Serve, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Close(ctx)
	})
	return newHost(t, append(env, "FLYPROXY_ADMIN_LISTEN="+lis.Addr().String())...)
}

// Whoever keeps an app out of the registry, that is what is wrong, and not that no record is found.
func TestWithdrawnByWhomeverIsNoMissingRecord(t *testing.T) {
	_, lis := startApp(t)
	s := redistest.Start(t, redistest.Config{})
	for reason, do := range map[string]string{
		"withdrawn on request":                 "flyproxy withdraw --undo, unless",
		"withdrawn before a stop":              "nothing, if a stop",
		"withdrawn while the app is restarted": "a restart is under way",
		"withdrawn before a stop, on request":  "the rest ends with its cause",
	} {
		st := running(time.Now())
		st.Self.Apps[0].Registration, st.Self.Apps[0].Reason = "withdrawn", reason
		r := answering(t, st, admin.Readiness{Ready: true}, "REDIS_URL=redis://"+s.Addr(), "GRPC_PORT="+port(lis)).examine(t)
		expect(t, r, "record", "record.withdrawn")
		says(t, r, "record.withdrawn", reason, do)
	}
}

// running is the status of a sidecar with which all is well.
func running(started time.Time) admin.Status {
	return admin.Status{
		Self: admin.Self{InstanceID: "m0", Region: "ams", Mode: "sidecar", Engine: "relay", Version: "test", StartedAt: started,
			Apps: []admin.App{{Name: "app", Service: "battle", Registration: admin.Registered}}},
		Registry: admin.Registry{Store: "redis", State: admin.StateCurrent},
	}
}

func TestSidecar(t *testing.T) {
	url := "REDIS_URL=redis://" + redistest.Refusing(t)
	fine := admin.Readiness{Ready: true}
	expect(t, answering(t, running(time.Now()), fine, url).examine(t), "sidecar", "sidecar.ready")

	r := answering(t, running(time.Now()), admin.Readiness{Degraded: true, Reasons: []string{"draining: this sidecar is about to end"}}, url).examine(t)
	expect(t, r, "sidecar", "sidecar.not-ready", "sidecar.degraded")
	says(t, r, "sidecar.degraded", "draining", "start flyproxy again")

	other := running(time.Now())
	other.Self.InstanceID, other.Self.Version = "m9", "older"
	other.Registry.State, other.Registry.StalenessS = admin.StateStale, 90
	other.Routing.Unroutable = 7
	r = answering(t, other, fine, url).examine(t)
	expect(t, r, "sidecar", "sidecar.ready", "sidecar.other-configuration", "sidecar.other-version", "sidecar.stale", "sidecar.unroutable")
	says(t, r, "sidecar.other-configuration", "instance_id", `"m9"`, `"m0"`)
	says(t, r, "sidecar.stale", "1m30s")
	says(t, r, "sidecar.unroutable", "7 calls", "No gRPC instances available")

	r = newHost(t, url, "FLYPROXY_ADMIN_LISTEN="+httpServer(t).Addr().String()).examine(t)
	expect(t, r, "sidecar", "sidecar.no-answer")
}

// The record is judged by what the sidecar says of itself.
func TestRecord(t *testing.T) {
	_, lis := startApp(t)
	started := time.Now()
	own := instance("m0", lis.Addr().String())
	own.StartedAt = started.UTC().Truncate(time.Millisecond)
	draining, elsewhere, older := own, own, own
	draining.State = registry.Draining
	elsewhere.Address = "127.0.0.1:1"
	older.StartedAt = started.Add(-time.Hour)
	unhealthy, superseded, backedOff := running(started), running(started), running(started)
	unhealthy.Self.Apps[0].Registration, unhealthy.Self.Apps[0].Reason = "none", "the app is not healthy: NOT_SERVING"
	superseded.Self.Apps[0].Registration = admin.Superseded
	backedOff.Instances = []admin.Instance{{Service: "battle", ID: "m1", View: admin.View{BackedOff: true, Refusals: 3}}}
	for want, tc := range map[string]struct {
		records []registry.Instance
		st      admin.Status
		says    string
	}{
		"record.current":       {[]registry.Instance{own}, running(started), lis.Addr().String()},
		"record.draining":      {[]registry.Instance{draining}, running(started), "draining"},
		"record.differs":       {[]registry.Instance{elsewhere}, running(started), "127.0.0.1:1"},
		"record.other-process": {[]registry.Instance{older}, running(started), "FLYPROXY_INSTANCE_ID"},
		"record.superseded":    {[]registry.Instance{older}, superseded, lis.Addr().String()},
		"record.missing":       {nil, unhealthy, "NOT_SERVING"},
	} {
		t.Run(want, func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{})
			register(t, redis.Config{Addresses: []string{s.Addr()}}, tc.records...)
			r := answering(t, tc.st, admin.Readiness{Ready: true}, "REDIS_URL=redis://"+s.Addr(), "GRPC_PORT="+port(lis)).examine(t)
			expect(t, r, "record", want)
			says(t, r, want, tc.says)
			expect(t, r, "peers", "peers.none")
		})
	}
	s := redistest.Start(t, redistest.Config{})
	register(t, redis.Config{Addresses: []string{s.Addr()}}, own, instance("m1", redistest.Refusing(t)))
	r := answering(t, backedOff, admin.Readiness{Ready: true}, "REDIS_URL=redis://"+s.Addr(), "GRPC_PORT="+port(lis)).examine(t)
	expect(t, r, "peers", "peers.refused", "peers.backed-off")
	says(t, r, "peers.backed-off", "battle/m1", "3 times")
}

package enginetest

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// ownServices are tests of services that the engine answers itself.
func ownServices() []one {
	return []one{
		{"OnSamePort", testOwnService},
		{"NeedNoPeer", testOwnServiceNeedsNoPeer},
		{"UnknownMethodReachesNoPeer", testUnknownMethodOfOwnService},
		{"AreNotForwardedCalls", testOwnServiceIsNotObserved},
	}
}

// withHealth is a setup whose engine answers grpc.health.v1.Health.
func withHealth() (Setup, *health.Server) {
	h := health.NewServer()
	return Setup{Register: func(r grpc.ServiceRegistrar) { healthpb.RegisterHealthServer(r, h) }}, h
}

// Everything that is not registered with the engine is the peers'.
func testOwnService(t *testing.T, e Subject) {
	b := StartBackend(t, func(_ *Backend, s grpc.ServerStream) error { return status.Error(codes.DataLoss, "the peer's") })
	setup, _ := withHealth()
	s := e.Start(t, setup)
	s.Use(b)
	got, err := healthpb.NewHealthClient(dialPlain(t, s.Address)).Check(Context(t), &healthpb.HealthCheckRequest{})
	Must(t, err)
	if got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("got %v", got)
	}
	if _, err := Unary(Context(t), Dial(t, s.Address), "x"); status.Code(err) != codes.DataLoss {
		t.Errorf("another service: %v", err)
	}
	s.Quiet()
}

// A stream of an own service, with a message that comes later.
func testOwnServiceNeedsNoPeer(t *testing.T, e Subject) {
	setup, h := withHealth()
	s := e.Start(t, setup)
	st, err := healthpb.NewHealthClient(dialPlain(t, s.Address)).Watch(Context(t), &healthpb.HealthCheckRequest{})
	Must(t, err)
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{
		healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING,
	} {
		got, err := st.Recv()
		Must(t, err)
		if got.Status != want {
			t.Errorf("got %v, want %v", got, want)
		}
		h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	}
}

// A method that an own service does not have is no peer's business. What is merely named alike is.
func testUnknownMethodOfOwnService(t *testing.T, e Subject) {
	b := StartBackend(t, Echo)
	setup, _ := withHealth()
	s := e.Start(t, setup)
	s.Use(b)
	cc := Dial(t, s.Address)
	for method, want := range map[string]codes.Code{
		"/grpc.health.v1.Health/Nope":       codes.Unimplemented,
		"/grpc.health.v1/Nope":              codes.OK,
		"/grpc.health.v1.Health.More/Check": codes.OK,
	} {
		if _, err := unaryOf(Context(t), cc, method, "x"); status.Code(err) != want {
			t.Errorf("%s: got %v, want %v", method, err, want)
		}
	}
	if n := b.Calls.Load(); n != 2 {
		t.Errorf("the peer had %d calls, want 2", n)
	}
	s.Quiet()
}

// Observer and Stats are about calls that are forwarded.
func testOwnServiceIsNotObserved(t *testing.T, e Subject) {
	setup, _ := withHealth()
	s := e.Start(t, setup)
	hc := healthpb.NewHealthClient(dialPlain(t, s.Address))
	st, err := hc.Watch(Context(t), &healthpb.HealthCheckRequest{})
	Must(t, err)
	_, err = st.Recv()
	Must(t, err)
	_, err = hc.Check(Context(t), &healthpb.HealthCheckRequest{})
	Must(t, err)
	if started, _ := s.Told.counts(); started != 0 {
		t.Errorf("the observer was told of %d calls", started)
	}
	if st := s.Engine.Stats(); st.InFlight != 0 || len(st.Peers) != 0 {
		t.Errorf("Stats has %d calls in flight and the peers %+v", st.InFlight, st.Peers)
	}
}

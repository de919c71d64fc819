package doctor_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/demo"
	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

// bare is an app without health and reflection.
func bare(s *grpc.Server) { pb.RegisterGreeterServer(s, &demo.App{}) }

// polled is a health service without Watch.
type polled struct {
	healthpb.UnimplementedHealthServer
}

func (polled) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

// failing is a health service that is itself unwell.
type failing struct {
	healthpb.UnimplementedHealthServer
}

func (failing) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return nil, status.Error(codes.Internal, "out of order")
}

// guarded refuses whoever shows no credentials.
func guarded(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	return nil, status.Error(codes.Unauthenticated, "no token")
}

// httpServer is a server that speaks HTTP/1 only, as the app's own web port may.
func httpServer(t testing.TB) net.Listener {
	t.Helper()
	lis := listen(t)
	s := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: patience}
	serve(t, func() error {
		if err := s.Serve(lis); err != http.ErrServerClosed {
			return err
		}
		return nil
	}, func() { _ = s.Close() })
	return lis
}

// tlsServer is a gRPC server that takes TLS only, with the given certificate.
func tlsServer(t testing.TB, cfg *tls.Config) net.Listener {
	t.Helper()
	return startServer(t, func(s *grpc.Server) {
		bare(s)
		healthpb.RegisterHealthServer(s, health.NewServer())
	}, grpc.Creds(credentials.NewTLS(cfg)))
}

func certificate(t testing.TB, a *tlstest.Authority, names ...string) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.Issue(names...))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func TestApp(t *testing.T) {
	_, good := startApp(t)
	sick, sickAt := startApp(t)
	sick.SetServing(false)
	authority := tlstest.NewAuthority(t, "authority")
	secured := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{certificate(t, authority, "127.0.0.1")}})
	loopback := []string{"app.accepts", "app.advertised", "app.advertised-loopback"}
	with := func(more ...string) []string { return append(append([]string{}, loopback...), more...) }
	for _, tc := range []struct {
		what string
		lis  net.Listener
		env  []string
		want []string
		says []string // of the last ID
	}{
		{"all is well", good, nil, with("app.http2", "app.reflection", "app.serving"), []string{"SERVING"}},
		{"not serving", sickAt, nil, with("app.http2", "app.reflection", "app.serving", "app.not-serving"), []string{"NOT_SERVING", "not registered"}},
		{"a name that its health service does not know", good, []string{`FLYPROXY_APPS=[{"name":"app","health":{"service":"other"}}]`},
			with("app.http2", "app.reflection", "app.health-name"), []string{`"other"`, "health.service"}},
		{"neither health nor reflection", startServer(t, bare), nil, with("app.http2", "app.no-health", "app.no-reflection"), []string{"grpc_services"}},
		{"no health, though the mode wants it", startServer(t, bare), []string{`FLYPROXY_APPS=[{"name":"app","health":{"mode":"check"}}]`},
			with("app.http2", "app.no-reflection", "app.health-mode"), []string{"health.mode"}},
		{"no Watch", startServer(t, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, polled{}) }), nil,
			with("app.http2", "app.serving", "app.no-reflection", "app.no-watch"), []string{"every 2s"}},
		{"credentials demanded", startServer(t, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, polled{}) }, grpc.UnaryInterceptor(guarded)), nil,
			with("app.http2", "app.no-reflection", "app.health-denied"), []string{"no token", "exempt"}},
		{"a health service that fails", startServer(t, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, failing{}) }), nil,
			with("app.http2", "app.no-reflection", "app.health-failed"), []string{"Internal", "out of order"}},
		{"TLS", secured, nil, with("not-checked", "app.tls"), []string{"upstream.tls"}},
		{"TLS, as peers speak it", secured, []string{"FLYPROXY_UPSTREAM_TLS_ENABLED=true", `FLYPROXY_APPS=[{"name":"app","health":{"mode":"tcp"}}]`},
			with("not-checked", "app.http2"), []string{"TLS, HTTP/2"}},
		{"plaintext, and peers speak TLS", good, []string{"FLYPROXY_UPSTREAM_TLS_ENABLED=true"}, with("app.reflection", "app.serving", "app.plaintext"), nil},
		{"an HTTP/1 server", httpServer(t), nil, with("not-checked", "app.not-http2"), []string{"HTTP/1", "GRPC_PORT"}},
		{"closes at once", stranger(t, func(net.Conn) {}), nil, with("not-checked", "app.not-http2"), []string{"closes it"}},
		{"nothing", nil, nil, []string{"not-checked", "app.refused"}, []string{"GRPC_PORT"}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			at := lastOf(redistest.Refusing(t))
			if tc.lis != nil {
				at = port(tc.lis)
			}
			r := newHost(t, append(tc.env, "REDIS_URL=redis://"+redistest.Refusing(t), "GRPC_PORT="+at)...).examine(t)
			expect(t, r, "app", tc.want...)
			says(t, r, tc.want[len(tc.want)-1], tc.says...)
		})
	}
}

// An app that accepts and says nothing is waited for, but not for long, and not by the other checks.
func TestSilentApp(t *testing.T) {
	silent := stranger(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	r := newHost(t, "REDIS_URL=redis://"+redistest.Refusing(t), "GRPC_PORT="+port(silent)).examine(t)
	expect(t, r, "app", "app.accepts", "app.advertised", "app.advertised-loopback", "app.silent", "not-checked")
	says(t, r, "app.silent", "sends nothing", "restart the app")
}

// The app is where peers are told to dial, and not where it is said to be: the registrar takes it there.
func TestAppElsewhere(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	app := demo.NewApp("m0", "ams")
	serve(t, func() error { return app.Serve(lis) }, app.Stop)
	url := "REDIS_URL=redis://" + redistest.Refusing(t)
	r := newHost(t, url, "GRPC_PORT="+port(lis), "FLYPROXY_REGISTRATION_ADDRESS="+lis.Addr().String()).examine(t)
	expect(t, r, "app", "app.elsewhere", "app.http2", "app.serving", "app.reflection", "app.advertised", "app.advertised-loopback")
	r = newHost(t, url, "GRPC_PORT="+port(lis), "FLYPROXY_REGISTRATION_ADDRESS=127.0.0.3:"+port(lis)).examine(t)
	expect(t, r, "app", "app.refused", "not-checked")
	says(t, r, "app.refused", lis.Addr().String())
	r = newHost(t, url, "FLYPROXY_REGISTRATION_ENABLED=false").examine(t)
	expect(t, r, "app", "app.none")
	expect(t, r, "record", "record.not-expected")
}

func TestListeners(t *testing.T) {
	_, app := startApp(t)
	web := httpServer(t)
	redis := "REDIS_URL=redis://" + redistest.Refusing(t)
	for _, tc := range []struct {
		what string
		env  []string
		want []string
		says []string // of the last ID
	}{
		{"both free", nil, []string{"listeners.free"}, []string{"free"}},
		{"a web server has the port for calls", []string{"FLYPROXY_LISTEN=" + web.Addr().String()}, []string{"listeners.free", "listeners.taken"},
			[]string{"HTTP/1", "doctor.test, process ", "FLYPROXY_LISTEN"}},
		{"another gRPC server has it", []string{"FLYPROXY_LISTEN=" + app.Addr().String()}, []string{"listeners.free", "listeners.taken"},
			[]string{"not flyproxy", "FLYPROXY_LISTEN"}},
		{"a web server has the admin port", []string{"FLYPROXY_ADMIN_LISTEN=" + web.Addr().String()}, []string{"listeners.free", "listeners.taken"},
			[]string{"admin.listen"}},
		{"no such address", []string{"FLYPROXY_ADMIN_LISTEN=192.0.2.1:9052"}, []string{"listeners.free", "listeners.no-address"}, []string{"192.0.2.1"}},
		{"a socket that is not there", []string{"FLYPROXY_LISTEN=unix://" + t.TempDir() + "/s"}, []string{"listeners.free"}, nil},
	} {
		t.Run(tc.what, func(t *testing.T) {
			r := newHost(t, append([]string{redis}, tc.env...)...)
			r.env = append(r.env, tc.env...)
			report := r.examine(t)
			expect(t, report, "listeners", tc.want...)
			says(t, report, tc.want[len(tc.want)-1], tc.says...)
		})
	}
}

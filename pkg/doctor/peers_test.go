package doctor_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

// Each peer is judged by itself, in whatever company.
func TestPeers(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	_, good := startApp(t)
	sick, sickAt := startApp(t)
	sick.SetServing(false)
	authority := tlstest.NewAuthority(t, "authority")
	secured := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{certificate(t, authority, "127.0.0.1")}})
	swallow := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	draining := instance("draining", redistest.Refusing(t))
	draining.State = registry.Draining
	all := []registry.Instance{
		instance("good", good.Addr().String()), instance("sick", sickAt.Addr().String()), instance("bare", startServer(t, bare).Addr().String()),
		instance("gone", redistest.Refusing(t)), instance("silent", stranger(t, swallow).Addr().String()),
		instance("web", httpServer(t).Addr().String()), instance("closes", stranger(t, func(net.Conn) {}).Addr().String()),
		instance("secured", secured.Addr().String()), instance("named", "nowhere.invalid:50051"), draining,
	}
	register(t, redis.Config{Addresses: []string{s.Addr()}}, all...)
	r := newHost(t, "REDIS_URL=redis://"+s.Addr(), "FLYPROXY_UPSTREAM_CONNECT_TIMEOUT=2s").examine(t)
	for id, want := range map[string]string{
		"good": "peers.reached SERVING", "sick": "peers.not-serving NOT_SERVING", "bare": "peers.no-health Unimplemented", "gone": "peers.refused refused",
		"silent": "peers.not-http2 sends nothing", "web": "peers.not-http2 HTTP/1", "closes": "peers.not-http2 closes it",
		"secured": "peers.speaks-tls upstream.tls is off", "named": "peers.name nowhere.invalid", "draining": "peers.draining draining",
	} {
		wantID, part, _ := strings.Cut(want, " ")
		found := 0
		for _, f := range r.Findings {
			if !strings.HasPrefix(f.Subject, "battle/"+id+" ") {
				continue
			}
			found++
			if f.ID != wantID || !strings.Contains(f.Found, part) {
				t.Errorf("%s: %s %q, want %s", id, f.ID, f.Found, want)
			}
		}
		if found != 1 {
			t.Errorf("%d findings about %s\n%s", found, id, show(t, r))
		}
	}
	expect(t, r, "registry", "registry.read")
	says(t, r, "registry.read", "10 registered")
	says(t, r, "peers.reached", "connects in ", "HTTP/2: ", "streams at a time", "window 64 KiB")
}

func TestPeersOverTLS(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	authority, other := tlstest.NewAuthority(t, "authority"), tlstest.NewAuthority(t, "other")
	healthy := func(s *grpc.Server) { healthpb.RegisterHealthServer(s, health.NewServer()) }
	mine := certificate(t, authority, "127.0.0.1")
	mutual := &tls.Config{Certificates: []tls.Certificate{mine}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool()}
	// A TLS server that does not speak of HTTP/2.
	silent := listen(t)
	noALPN := tls.NewListener(silent, &tls.Config{Certificates: []tls.Certificate{mine}})
	plainServer := grpc.NewServer()
	serve(t, func() error { return plainServer.Serve(noALPN) }, plainServer.Stop)
	for id, tc := range map[string]struct {
		lis  net.Listener
		want string
	}{
		"good":    {tlsServer(t, &tls.Config{Certificates: []tls.Certificate{mine}}), "peers.reached"},
		"foreign": {tlsServer(t, &tls.Config{Certificates: []tls.Certificate{certificate(t, other, "127.0.0.1")}}), "peers.certificate"},
		"misname": {tlsServer(t, &tls.Config{Certificates: []tls.Certificate{certificate(t, authority, "other.test")}}), "peers.certificate"},
		"plain":   {startServer(t, healthy), "peers.speaks-plaintext"},
		"mutual":  {tlsServer(t, mutual), "peers.refuses-our-certificate"},
		"no-alpn": {silent, "peers.not-http2"},
	} {
		t.Run(id, func(t *testing.T) {
			ns := "ns-" + id
			register(t, redis.Config{Addresses: []string{s.Addr()}, Namespace: ns}, instance(id, tc.lis.Addr().String()))
			ca := filepath.Join(t.TempDir(), "ca.pem")
			tlstest.Write(t, ca, authority.PEM())
			r := newHost(t, "REDIS_URL=redis://"+s.Addr(), "FLYPROXY_REGISTRY_NAMESPACE="+ns, "FLYPROXY_UPSTREAM_TLS_ENABLED=true",
				"FLYPROXY_UPSTREAM_TLS_CA_FILE="+ca).examine(t)
			expect(t, r, "peers", tc.want)
		})
	}
}

// A record that lies outside of the networks, one of another program, and one that another key has signed are told.
func TestRecordsThatAreIgnored(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	register(t, redis.Config{Addresses: []string{s.Addr()}}, instance("m1", "192.0.2.1:50051"))
	env := []string{"REDIS_URL=redis://" + s.Addr()}
	r := newHost(t, append(env, "FLYPROXY_REGISTRY_ALLOWED_NETWORKS=127.0.0.0/8")...).examine(t)
	expect(t, r, "registry", "registry.read", "registry.rejected")
	says(t, r, "registry.rejected", "network 1", "allowed_networks")
	expect(t, r, "peers", "peers.none")
	r = newHost(t, append(env, "FLYPROXY_REGISTRY_SIGNING_KEY=0123456789abcdef0123456789abcdef")...).examine(t)
	says(t, r, "registry.rejected", "signature 1", "signing_key")
	if strings.Contains(show(t, r), "0123456789") {
		t.Error("it shows the signing key")
	}
	// A name is judged by what it resolves to, when it is dialled.
	register(t, redis.Config{Addresses: []string{s.Addr()}, Namespace: "named"}, instance("m1", "localhost:50051"))
	r = newHost(t, append(env, "FLYPROXY_REGISTRY_NAMESPACE=named", "FLYPROXY_REGISTRATION_ADDRESS=192.0.2.1:50051", "FLYPROXY_REGISTRY_ALLOWED_NETWORKS=192.0.2.0/24")...).examine(t)
	expect(t, r, "peers", "peers.network")
	r = newHost(t, append(env, "FLYPROXY_REGISTRY_NAMESPACE=named", "FLYPROXY_UPSTREAM_TLS_ENABLED=true", "FLYPROXY_UPSTREAM_TLS_CA_FILE=/nowhere.pem")...).examine(t)
	expect(t, r, "peers", "peers.tls-files", "not-checked")
	s.Must("SET", "flyproxy:v1:{other}:leases", "mine")
	r = newHost(t, append(env, "FLYPROXY_REGISTRY_NAMESPACE=other")...).examine(t)
	expect(t, r, "registry", "registry.wrong-type")
	says(t, r, "registry.wrong-type", "flyproxy:v1:{other}:leases", "namespace")
}

// However many peers say nothing, the examination ends in its time, and says that it was cut off.
func TestItIsBoundedInTime(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	// Connections are completed by the kernel and never answered.
	silent := listen(t)
	defer silent.Close()
	var all []registry.Instance
	for i := range 64 {
		all = append(all, instance(fmt.Sprintf("m%d", i+1), silent.Addr().String()))
	}
	register(t, redis.Config{Addresses: []string{s.Addr()}}, all...)
	h := newHost(t, "REDIS_URL=redis://"+s.Addr())
	h.o.Timeout = time.Second
	began := time.Now()
	r := h.examine(t)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v with a timeout of 1s", took)
	}
	expect(t, r, "configuration", "configuration.good", "out-of-time")
	expect(t, r, "peers", "not-checked")
	expect(t, r, "redis", fine...)
	peers := 0
	for _, f := range r.Findings {
		if f.Check == "peers" {
			peers++
		}
	}
	if peers != 64 {
		t.Errorf("%d of 64 peers are spoken of", peers)
	}
}

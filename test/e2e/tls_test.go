package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/demo"
	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

// peerName is the name in the certificates of the apps of these tests.
const peerName = "battle.internal"

// tlsApp is an app that takes TLS only.
type tlsApp struct {
	*demo.App
	port int

	// mu guards the fields below.
	mu      sync.Mutex
	cert    *tls.Certificate
	clients map[string]int // calls by the common name of the client's certificate, empty when it sent none
}

// startTLSApp runs an app with the TLS configuration given, nil for plain text; its certificate is what present was called with last.
// Without alpn it does not say that it speaks HTTP/2.
func startTLSApp(t testing.TB, cfg *tls.Config, alpn bool, opts ...grpc.ServerOption) *tlsApp {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &tlsApp{App: &demo.App{Instance: "secured"}, port: lis.Addr().(*net.TCPAddr).Port, clients: make(map[string]int)}
	if cfg != nil {
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.cert, nil
		}
		if alpn {
			opts = append(opts, grpc.Creds(credentials.NewTLS(cfg)))
		} else {
			lis = tls.NewListener(lis, cfg)
		}
	}
	server := grpc.NewServer(opts...)
	pb.RegisterGreeterServer(server, a)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("app: %v", err)
		}
	})
	return a
}

// present has the app send a new certificate from now on.
func (a *tlsApp) present(t testing.TB, from *tlstest.Authority) {
	t.Helper()
	pair, err := tlsfiles.Pair(from.Issue(peerName))
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cert = &pair
}

// seen is how many calls came from clients whose certificate has that name.
func (a *tlsApp) seen(client string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.clients[client]
}

func (a *tlsApp) Hello(ctx context.Context, req *pb.HelloRequest) (*pb.HelloReply, error) {
	name := ""
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			name = info.State.PeerCertificates[0].Subject.CommonName
		}
	}
	a.mu.Lock()
	a.clients[name]++
	a.mu.Unlock()
	return a.App.Hello(ctx, req)
}

// startTLSSidecar runs a sidecar that knows the app from a list.
func startTLSSidecar(t testing.TB, a *tlsApp, env ...string) *sidecar {
	t.Helper()
	s := startSidecar(t, "m0", "ams", freePort(t), append([]string{
		fmt.Sprintf(`FLYPROXY_REGISTRY_STATIC=[{service: battle, id: secured, address: "127.0.0.1:%d"}]`, a.port),
		"FLYPROXY_UPSTREAM_TLS_ENABLED=true",
	}, env...)...)
	sees(t, 1, s)
	return s
}

func TestTLSToPeers(t *testing.T) { eachEngine(t, tlsToPeers) }

func tlsToPeers(t *testing.T, engine string) {
	ours, others := tlstest.NewAuthority(t, "our authority"), tlstest.NewAuthority(t, "another authority")
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		tlstest.Write(t, path, content)
		return path
	}
	pair := func(name string, a *tlstest.Authority) []string {
		cert, key := a.Issue(name)
		return []string{"CERT_FILE=" + write(name+".crt", cert), "KEY_FILE=" + write(name+".key", key)}
	}
	ca := []string{"CA_FILE=" + write("ca.pem", ours.PEM()), "SERVER_NAME=" + peerName}
	mutual := func() *tls.Config {
		return &tls.Config{ClientCAs: ours.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	}
	for _, tc := range []struct {
		name   string
		server *tls.Config
		from   *tlstest.Authority
		set    []string // what follows FLYPROXY_UPSTREAM_TLS_
		client string   // as the app sees it
		says   string   // what the log says of a call that is UNAVAILABLE; empty where it succeeds
		noALPN bool
	}{
		{name: "TLS", server: &tls.Config{}, from: ours, set: ca},
		{name: "TLS 1.2", server: &tls.Config{MaxVersion: tls.VersionTLS12}, from: ours, set: ca},
		{name: "mutual", server: mutual(), from: ours, set: append(pair("m0", ours), ca...), client: "m0"},
		{name: "an app of another authority", server: &tls.Config{}, from: others, set: ca, says: "unknown authority"},
		{
			name: "an app with another name", server: &tls.Config{}, from: ours, set: []string{ca[0], "SERVER_NAME=elsewhere.internal"},
			says: "not elsewhere.internal",
		},
		{
			name: "the address is checked where no name is set", server: &tls.Config{}, from: ours, set: ca[:1], says: "127.0.0.1",
		},
		{name: "no certificate for an app that asks for one", server: mutual(), from: ours, set: ca, says: "there is none to show"},
		{
			name: "a certificate of another authority", server: mutual(), from: ours, set: append(pair("stranger", others), ca...),
			says: "not for one like ours",
		},
		{name: "an app in plain text", set: ca, says: "does not look like a TLS handshake"},
		{name: "an app that may not speak HTTP/2", server: &tls.Config{}, noALPN: true, from: ours, set: ca, says: "ALPN"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := startTLSApp(t, tc.server, !tc.noALPN)
			if tc.from != nil {
				a.present(t, tc.from)
			}
			env := []string{engine}
			for _, s := range tc.set {
				env = append(env, "FLYPROXY_UPSTREAM_TLS_"+s)
			}
			s := startTLSSidecar(t, a, env...)
			began := time.Now()
			reply, err := hello(t, s)
			if tc.says == "" {
				if err != nil || reply.GetInstance() != "secured" || a.seen(tc.client) != 1 {
					t.Errorf("%v %v, by %v", reply, err, a.clients)
				}
				return
			}
			if status.Code(err) != codes.Unavailable {
				t.Errorf("%v, want UNAVAILABLE", err)
			}
			t.Logf("after %v: %v", time.Since(began).Round(time.Millisecond), err)
			eventually(t, "the log says why: "+tc.says, func() bool { return strings.Contains(s.output(), tc.says) })
		})
	}
}

// Authority, certificates of both sides and keys are renewed on disk while calls go on and connections come and go. No call fails, not
// even while the files do not fit each other.
func TestCertificatesAreRenewedUnderLoad(t *testing.T) { eachEngine(t, certificatesAreRenewed) }

func certificatesAreRenewed(t *testing.T, engine string) {
	old, fresh := tlstest.NewAuthority(t, "old authority"), tlstest.NewAuthority(t, "new authority")
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	write := func(path string, content []byte) { t.Helper(); tlstest.Write(t, path, content) }
	oldCert, oldKey := old.Issue("before")
	write(ca, old.PEM())
	write(cert, oldCert)
	write(key, oldKey)
	clients := old.Pool()
	clients.AppendCertsFromPEM(fresh.PEM())
	// Connections are so short-lived that there are handshakes all the time; the app lets the calls on them end.
	a := startTLSApp(t, &tls.Config{ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}, true,
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 100 * time.Millisecond}))
	a.present(t, old)
	s := startTLSSidecar(t, a, engine, "FLYPROXY_UPSTREAM_TLS_SERVER_NAME="+peerName, "FLYPROXY_UPSTREAM_TLS_CA_FILE="+ca,
		"FLYPROXY_UPSTREAM_TLS_CERT_FILE="+cert, "FLYPROXY_UPSTREAM_TLS_KEY_FILE="+key)
	calls := startLoad(t, 2*time.Millisecond, s, s)
	eventually(t, "calls with the old certificate", func() bool { return a.seen("before") > 10 })

	newCert, newKey := fresh.Issue("after")
	write(cert, newCert)
	eventually(t, "the log says that the files do not fit each other", func() bool {
		return strings.Contains(s.output(), "the ones from before stay in force")
	})
	some := a.seen("before")
	eventually(t, "more calls with the old certificate", func() bool { return a.seen("before") > some+50 })
	write(key, newKey)
	eventually(t, "calls with the new certificate", func() bool { return a.seen("after") > 10 })

	write(ca, append(old.PEM(), fresh.PEM()...))
	taken := func() int { return strings.Count(s.output(), "new connections use the new ones") }
	eventually(t, "the new authorities are taken", func() bool { return taken() == 2 })
	a.present(t, fresh)
	some = a.seen("after")
	eventually(t, "more calls, to the new certificate of the app", func() bool { return a.seen("after") > some+200 })
	t.Log(calls.stop())
	if n := strings.Count(s.output(), "cannot be used"); n != 1 {
		t.Errorf("%d lines about one fault of the files", n)
	}
}

// An app that takes TLS only is registered and called as any other, with the settings that configs/flyproxy.yaml recommends.
func TestAppsThatTakeTLSOnly(t *testing.T) { eachEngine(t, appsThatTakeTLSOnly) }

func appsThatTakeTLSOnly(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	authority := tlstest.NewAuthority(t, "our authority")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	tlstest.Write(t, ca, authority.PEM())
	machine := func(id string) *sidecar {
		a := startTLSApp(t, &tls.Config{}, true)
		a.present(t, authority)
		return startSidecar(t, id, "ams", a.port, engine, "REDIS_URL=redis://"+redis.Addr(),
			fmt.Sprintf(`FLYPROXY_APPS=[{address: "127.0.0.1:%d", health: {mode: tcp}, grpc_services: [flyproxy.demo.v1.Greeter]}]`, a.port),
			"FLYPROXY_UPSTREAM_TLS_ENABLED=true", "FLYPROXY_UPSTREAM_TLS_CA_FILE="+ca, "FLYPROXY_UPSTREAM_TLS_SERVER_NAME="+peerName)
	}
	s0, s1 := machine("m0"), machine("m1")
	sees(t, 2, s0, s1)
	for _, s := range []*sidecar{s0, s1} {
		if reply, err := hello(t, s); err != nil || reply.GetInstance() != "secured" {
			t.Errorf("through %s: %v %v", s.id, reply, err)
		}
	}
}

package sidecar_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
	"github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

// eachEngine runs a test with each data plane.
func eachEngine(t *testing.T, f func(t *testing.T, engine string)) {
	for _, engine := range []string{"relay", "grpc"} {
		t.Run(engine, func(t *testing.T) { f(t, "FLYPROXY_ENGINE="+engine) })
	}
}

// hello makes one call to a gateway.
func hello(t *testing.T, address string, opts ...grpc.DialOption) (*greeterv1.HelloReply, error) {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, append([]grpc.DialOption{grpc.WithNoProxy()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return greeterv1.NewGreeterClient(cc).Hello(ctx, &greeterv1.HelloRequest{})
}

var plainText = grpc.WithTransportCredentials(insecure.NewCredentials())

// A gateway forwards, registers nothing, beats, and says what it is.
func TestGateway(t *testing.T) { eachEngine(t, gateway) }

func gateway(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	at := "REDIS_URL=redis://" + redis.Addr()
	_, port := serveApp(t, "app")
	s, _, _ := run(t, load(t, at, "GRPC_PORT="+port))
	await(t, "the app is registered", func() bool { return s.Known("battle") == 1 })
	g, log, stop := run(t, loadAlone(t, at, engine, "FLYPROXY_MODE=gateway", "FLYPROXY_INSTANCE_ID=gw"))
	await(t, "the gateway knows the app", func() bool { return g.Known("battle") == 1 })
	reply, err := hello(t, g.Addresses()[0], plainText)
	if err != nil || reply.GetInstance() != "app" {
		t.Errorf("%v %v", reply, err)
	}
	if r := g.Ready(); !r.Ready || r.Degraded {
		t.Errorf("ready: %+v", r)
	}
	st := g.Status(t.Context())
	if st.Self.Mode != "gateway" || len(st.Self.Apps)+len(st.Self.Services) != 0 || st.Counts.Known != 1 || st.Instances[0].Self {
		t.Errorf("status: %+v", st)
	}
	text := metrics(t, g)
	for _, want := range []string{`mode="gateway"`, `flyproxy_refused_clients_total{reason="address"} 0`, `flyproxy_registry_duration_seconds_count{op="beat"}`} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if text := metrics(t, s); strings.Contains(text, "flyproxy_refused_clients_total") || !strings.Contains(text, `mode="sidecar"`) {
		t.Error("the sidecar's metrics")
	}
	if n := redis.Text("HLEN", "flyproxy:v1:{default}:instances"); n != "1" {
		t.Errorf("%s records, want the app's alone", n)
	}
	for _, want := range []string{"a gateway: it registers nothing", "mode=gateway"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	stop()
	if n := redis.Text("HLEN", "flyproxy:v1:{default}:instances"); n != "1" {
		t.Errorf("%s records after the gateway's end", n)
	}
}

// Without a service of its own a gateway says what to do.
func TestGatewayWithoutAService(t *testing.T) {
	g, _, _ := run(t, loadAlone(t, "FLYPROXY_MODE=gateway", `FLYPROXY_REGISTRY_STATIC=[{service: a, address: "127.0.0.1:1"}]`))
	_, err := hello(t, g.Addresses()[0], plainText)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "set routing.routes, the header flyproxy-service, or service (FLYPROXY_SERVICE)") {
		t.Errorf("%v", err)
	}
	cc, err := grpc.NewClient(g.Addresses()[0], plainText)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	_, err = flyproxyv1.NewDiscoveryClient(cc).ListInstances(t.Context(), &flyproxyv1.ListInstancesRequest{})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "no service of its own") {
		t.Errorf("%v", err)
	}
}

// Entries that lead back to the gateway get no calls (a name that only resolving tells is a case of the engines): with others there nobody notices, and without any the call
// ends at once and says why. Were one of them chosen, the call would go round until its deadline.
func TestNoWayBackToTheGateway(t *testing.T) { eachEngine(t, noWayBack) }

func noWayBack(t *testing.T, engine string) {
	_, port := serveApp(t, "app")
	lis, err := net.Listen("tcp", "127.0.0.1:0") // a port that the list can name before the gateway has it
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := net.SplitHostPort(lis.Addr().String())
	_ = lis.Close()
	list := func(addresses ...string) string {
		var all []string
		for i, a := range addresses {
			all = append(all, fmt.Sprintf(`{service: battle, id: i%d, address: "%s", region: ams}`, i, a))
		}
		return "FLYPROXY_REGISTRY_STATIC=[" + strings.Join(all, ", ") + "]"
	}
	back := []string{"127.0.0.1:" + own, "localhost:" + own, "[::ffff:127.0.0.1]:" + own}
	begin := func(addresses ...string) (*sidecar.Sidecar, *logs, func()) {
		return run(t, load(t, engine, "FLYPROXY_MODE=gateway", "FLYPROXY_LISTEN=[::]:"+own, list(addresses...)))
	}
	g, log, stop := begin(append(back, "127.0.0.1:"+port)...)
	for range 50 {
		if reply, err := hello(t, "127.0.0.1:"+own, plainText); err != nil || reply.GetInstance() != "app" {
			t.Fatalf("%v %v", reply, err)
		}
	}
	if r := g.Ready(); !r.Ready || !r.Degraded || len(r.Reasons) != 3 ||
		!strings.Contains(r.Reasons[0], "battle/i0 at 127.0.0.1:"+own+" gets no calls from here: its address is our own listener") {
		t.Errorf("ready: %+v", r)
	}
	if n := strings.Count(log.String(), "an instance gets no calls from here"); n != 3 {
		t.Errorf("%d lines about it", n)
	}
	if n := int(sum(metrics(t, g), "flyproxy_calls_total")); n != 50 {
		t.Errorf("%d calls were counted, of 50 that were made", n)
	}
	stop()

	g, _, stop = begin(back...)
	began := time.Now()
	_, err = hello(t, "127.0.0.1:"+own, plainText)
	if status.Code(err) != codes.Unavailable || time.Since(began) > 5*time.Second {
		t.Errorf("nobody else: %v after %v", err, time.Since(began))
	}
	t.Log(err)
	if n := int(sum(metrics(t, g), "flyproxy_calls_total")); n != 1 {
		t.Errorf("one call was counted as %d", n)
	}
	stop()
}

// sum adds up the series of a metric.
func sum(text, name string) (total float64) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+"{"); ok {
			var n float64
			_, _ = fmt.Sscan(rest[strings.LastIndex(rest, "}")+1:], &n)
			total += n
		}
	}
	return total
}

// certificates are a gateway's files.
type certificates struct {
	authority *tlstest.Authority
	env       []string
	key       string // the path of the private key
}

func newCertificates(t *testing.T, mutual bool) certificates {
	t.Helper()
	dir, a := t.TempDir(), tlstest.NewAuthority(t, "ours")
	cert, key := a.Issue("gateway.internal")
	c := certificates{authority: a, env: []string{"FLYPROXY_DOWNSTREAM_TLS_ENABLED=true"}}
	for _, f := range []struct {
		key     string
		content []byte
		used    bool
	}{{"CERT_FILE", cert, true}, {"KEY_FILE", key, true}, {"CLIENT_CA_FILE", a.PEM(), mutual}} {
		if f.used {
			path := filepath.Join(dir, f.key)
			tlstest.Write(t, path, f.content)
			if f.key == "KEY_FILE" {
				c.key = path
			}
			c.env = append(c.env, "FLYPROXY_DOWNSTREAM_TLS_"+f.key+"="+path)
		}
	}
	return c
}

// client is TLS with a certificate of that name, none where it is empty.
func (c certificates) client(t *testing.T, name string) grpc.DialOption {
	t.Helper()
	cfg := &tls.Config{RootCAs: c.authority.Pool(), ServerName: "gateway.internal"}
	if name != "" {
		cert, key := c.authority.Issue(name)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(cfg))
}

// A gateway takes TLS, and nothing else; mutual where it has an authority. Unix sockets take plain text all the same.
func TestGatewayWithTLS(t *testing.T) { eachEngine(t, gatewayWithTLS) }

func gatewayWithTLS(t *testing.T, engine string) {
	_, port := serveApp(t, "app")
	c := newCertificates(t, true)
	socket := filepath.Join(t.TempDir(), "g.sock")
	g, log, _ := run(t, load(t, append(append(listed(port), c.env...), engine, "FLYPROXY_MODE=gateway",
		"FLYPROXY_LISTEN=127.0.0.1:0,unix://"+socket)...))
	address := g.Addresses()[0]
	if reply, err := hello(t, address, c.client(t, "client")); err != nil || reply.GetInstance() != "app" {
		t.Errorf("%v %v", reply, err)
	}
	cc, err := grpc.NewClient("unix://"+socket, plainText)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	if _, err := greeterv1.NewGreeterClient(cc).Hello(t.Context(), &greeterv1.HelloRequest{}); err != nil {
		t.Errorf("over the unix socket: %v", err)
	}
	for reason, option := range map[string]grpc.DialOption{"no_certificate": c.client(t, ""), "plain_text": plainText} {
		_, err := hello(t, address, option)
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", reason, err)
		}
		await(t, "the log says "+reason, func() bool { return strings.Contains(log.String(), "reason="+reason) })
		t.Log(err)
	}
}

// Files that cannot be used any more are said by /ready, once there is no handshake either; calls go on with those from before.
func TestGatewayWhoseFilesGoBad(t *testing.T) {
	_, port := serveApp(t, "app")
	c := newCertificates(t, false)
	g, _, _ := run(t, load(t, append(append(listed(port), c.env...), "FLYPROXY_MODE=gateway")...))
	await(t, "it is ready", func() bool { r := g.Ready(); return r.Ready && !r.Degraded })
	tlstest.Write(t, c.key, []byte("no key"))
	r := g.Ready()
	if !r.Ready || !r.Degraded || len(r.Reasons) != 1 || !strings.HasPrefix(r.Reasons[0], "downstream.tls: the files have changed and cannot be used") ||
		!strings.Contains(r.Reasons[0], c.key) {
		t.Errorf("ready: %+v", r)
	}
	if reply, err := hello(t, g.Addresses()[0], c.client(t, "")); err != nil || reply.GetInstance() != "app" {
		t.Errorf("%v %v", reply, err)
	}
}

// Files that are missing when it starts end a gateway with the key's name. (The configuration finds most of it before.)
func TestGatewayWithoutItsFiles(t *testing.T) {
	c := newCertificates(t, false)
	cfg := load(t, append(listed("1"), append(c.env, "FLYPROXY_MODE=gateway")...)...)
	cfg.Downstream.TLS.KeyFile = filepath.Join(t.TempDir(), "gone")
	_, err := sidecar.New(cfg, sidecar.Options{Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.HasPrefix(err.Error(), "downstream.tls: ") {
		t.Errorf("%v", err)
	}
}

// A client that says nothing for as long as it likes does not keep a gateway from ending, nor do its open calls end before their time.
func TestGatewayDrains(t *testing.T) { eachEngine(t, gatewayDrains) }

func gatewayDrains(t *testing.T, engine string) {
	_, port := serveApp(t, "app")
	c := newCertificates(t, false)
	g, _, stop := run(t, load(t, append(append(listed(port), c.env...), engine, "FLYPROXY_MODE=gateway", "FLYPROXY_DRAIN_TIMEOUT=15s")...))
	silent, err := net.Dial("tcp", g.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cc, err := grpc.NewClient("passthrough:///"+g.Addresses()[0], c.client(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	stream, err := greeterv1.NewGreeterClient(cc).Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	turn := func() error {
		if err := stream.Send(&greeterv1.HelloRequest{Name: "x"}); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	}
	if err := turn(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	await(t, "it drains", func() bool { return !g.Ready().Ready })
	await(t, "nothing is accepted any more", func() bool {
		nc, err := net.Dial("tcp", g.Addresses()[0])
		if err == nil {
			_ = nc.Close()
		}
		return err != nil
	})
	for range 3 {
		if err := turn(); err != nil {
			t.Fatalf("the open call: %v", err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the open call ended with %v", err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the gateway does not end after its last call")
	}
}

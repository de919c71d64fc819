package e2e_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

// Apps without a sidecar call through a gateway in a Machine of its own, over 6PN. It registers nothing, asks Redis for its beats and
// nothing else, turns other networks away, and says what it is.
func TestGateway(t *testing.T) { eachEngine(t, throughAGateway) }

func throughAGateway(t *testing.T, engine string) {
	r := newGatewayRig(t, engine)
	r.hosts()
	p := r.start()
	out, err := r.from.run(r.app, "call", r.address(), "20")
	if err != nil || strings.Count(out, "machine-a") == 0 || strings.Count(out, "machine-b") == 0 || strings.Count(out, "\n") != 20 {
		t.Errorf("calls from another Machine: %v\n%s", err, out)
	}

	// The name of its own address stands in /etc/hosts, so it is not on loopback.
	if !strings.Contains(p.output(), `"addresses":["`+r.address()+`"]`) {
		t.Errorf("it does not listen on its 6PN address alone")
	}
	if out, err := r.gw.run(r.app, "call", "127.0.0.1:50052", "1"); err == nil {
		t.Errorf("it listens on loopback: %s", out)
	}
	if out, err := r.gw.run(r.app, "call", "fly-local-6pn:50052", "1"); err != nil {
		t.Errorf("by its name: %v %s", err, out)
	}

	// A client from elsewhere.
	const refused = `flyproxy_refused_clients_total{reason="address"} `
	for range 3 {
		if err := r.connect(outside); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a client from %s was not closed: %v", outside, err)
		}
	}
	if text := r.gw.metrics(); !strings.Contains(text, refused+"3\n") {
		t.Errorf("three refused clients were not counted")
	}
	if !strings.Contains(p.output(), outside) || strings.Count(p.output(), "downstream.allowed_networks") != 1 {
		t.Error("the log does not say, once, who was refused")
	}
	r.reachesBoth(r.client(nil), 20)

	// What it is.
	out, err = r.from.run(flyproxy, "status", "--addr", "["+r.gw.addr+"]:9052")
	if err != nil || !strings.Contains(out, "  gateway  ") || strings.Contains(out, "\napp ") || !strings.Contains(out, "2 known: 2 serving") {
		t.Errorf("status: %v\n%s", err, out)
	}
	t.Log("\n" + out)
	if !strings.Contains(r.gw.metrics(), `mode="gateway"`) {
		t.Error("the metrics do not say that it is a gateway")
	}

	// Redis: no record, and for some intervals nothing but beats, as many as the gateway says.
	m := r.monitor(r.gw)
	seen, before := m.count(), r.beats() // in this order, so that the difference of the first is not the smaller one
	eventually(t, "five beats more", func() bool { return r.beats() >= before+5 })
	enough := r.beats() - before
	eventually(t, "Redis has seen them", func() bool { return m.count() >= seen+enough })
	got, most := m.count()-seen, r.beats()-before+1 // one may have been on its way at the beginning
	if commands := m.commands(); len(commands) != 1 || got > most || !strings.HasPrefix(slices.Collect(maps.Keys(commands))[0], "evalsha ") {
		t.Errorf("Redis saw %d commands of at most %d beats: %v", got, most, commands)
	}
	t.Logf("%d beats, %d commands", r.beats()-before, m.count()-seen)
	if got := r.records(); len(got) != 2 || !slices.Contains(got, "battle/machine-a") || !slices.Contains(got, "battle/machine-b") {
		t.Errorf("records %v", got)
	}
	r.stop(p)
	if got := r.records(); len(got) != 2 {
		t.Errorf("records after its end: %v", got)
	}

	// A host that does not know the name.
	if err := os.Remove(filepath.Join("/etc/netns", r.gw.ns, "hosts")); err != nil {
		t.Fatal(err)
	}
	p = r.start()
	if !strings.Contains(p.output(), `"addresses":["[::]:50052"]`) || !strings.Contains(p.output(), "does not know its 6PN name") {
		t.Error("it does not listen on all addresses")
	}
	if err := r.connect(outside); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a client from %s was not closed: %v", outside, err)
	}
	r.reachesBoth(r.client(nil), 20)
	r.stop(p)
}

// The same over TLS, and over mutual TLS, with calls of all kinds.
func TestGatewayOverTLS(t *testing.T) { eachEngine(t, gatewayOverTLS) }

func gatewayOverTLS(t *testing.T, engine string) {
	r := newGatewayRig(t, engine)
	authority := tlstest.NewAuthority(t, "our authority")
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		tlstest.Write(t, path, content)
		return path
	}
	cert, key := authority.Issue("gateway.internal")
	env := []string{
		"FLYPROXY_DOWNSTREAM_TLS_ENABLED=true", "FLYPROXY_DOWNSTREAM_TLS_CERT_FILE=" + file("tls.crt", cert),
		"FLYPROXY_DOWNSTREAM_TLS_KEY_FILE=" + file("tls.key", key),
	}
	cfg := &tls.Config{RootCAs: authority.Pool(), ServerName: "gateway.internal"}
	pair, err := tlsfiles.Pair(authority.Issue("client"))
	if err != nil {
		t.Fatal(err)
	}
	withCert := cfg.Clone()
	withCert.Certificates = []tls.Certificate{pair}

	p := r.start(env...)
	r.reachesBoth(r.client(cfg), 20)
	largeChat(t, r.client(cfg), 50)
	r.fails(nil) // plain text
	eventually(t, "the log says why", func() bool { return strings.Contains(p.output(), `"reason":"plain_text"`) })
	r.stop(p)

	p = r.start(append(env, "FLYPROXY_DOWNSTREAM_TLS_CLIENT_CA_FILE="+file("ca.pem", authority.PEM()))...)
	r.reachesBoth(r.client(withCert), 20)
	largeChat(t, r.client(withCert), 50)
	r.fails(cfg) // no certificate
	eventually(t, "the log says why", func() bool { return strings.Contains(p.output(), `"reason":"no_certificate"`) })
	r.stop(p)
}

// fails checks that a client with that configuration gets nowhere.
func (r *gatewayRig) fails(cfg *tls.Config) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := pb.NewGreeterClient(r.client(cfg)).Hello(ctx, &pb.HelloRequest{})
	if err == nil || ctx.Err() != nil {
		r.t.Errorf("a client that may not: %v", err)
	}
	r.t.Log(err)
}

// largeChat opens a call that streams both ways, has n turns of it with messages of a MiB, and ends its side first.
func largeChat(t *testing.T, cc *grpc.ClientConn, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := pb.NewGreeterClient(cc).Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("x", 1<<20)
	for range n {
		if err := stream.Send(&pb.HelloRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
		reply, err := stream.Recv()
		if err != nil || !strings.Contains(reply.GetGreeting(), name) {
			t.Fatalf("%d bytes came back: %v", len(reply.GetGreeting()), err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("it ended with %v", err)
	}
}

// A gateway that is told to end loses no open call: streams go on until their own end, and calls that are under way are answered. Clients
// that wait for the next one lose none at all.
func TestGatewayRestartedUnderLoad(t *testing.T) { eachEngine(t, gatewayRestarted) }

func gatewayRestarted(t *testing.T, engine string) {
	r := newGatewayRig(t, engine)
	p := r.start()
	conns := make(map[string]*grpc.ClientConn)
	for _, name := range []string{"one", "two", "three", "four"} {
		conns[name] = r.client(nil)
	}
	waiting := make(map[string]*grpc.ClientConn)
	for name := range conns {
		waiting[name] = r.waitingClient()
	}
	calls := startLoadOn(t, 2*time.Millisecond, waiting)
	var streams []pb.Greeter_ChatClient
	for _, cc := range conns {
		for range 5 {
			s, err := pb.NewGreeterClient(cc).Chat(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
		}
	}
	turn := func(what string) {
		t.Helper()
		for _, s := range streams {
			if err := s.Send(&pb.HelloRequest{Name: "x"}); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if _, err := s.Recv(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	turn("before")
	for range 3 {
		some := calls.calls.Load()
		eventually(t, "some calls", func() bool { return calls.calls.Load() > some+200 })
		p.signal(syscall.SIGTERM)
		eventually(t, "it drains", func() bool { return strings.Contains(p.output(), "draining: clients are told to go") })
		eventually(t, "nobody is accepted", func() bool { return errors.Is(r.connect(r.from.addr), syscall.ECONNREFUSED) })
		turn("while it drains")
		for _, s := range streams {
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("an open stream ended with %v", err)
			}
		}
		streams = nil
		if code := p.exit(patience); code != 0 {
			t.Errorf("it ended with %d", code)
		}
		p = r.start()
	}
	some := calls.calls.Load()
	eventually(t, "calls go on", func() bool { return calls.calls.Load() > some+200 })
	t.Log(calls.stop())
	r.stop(p)
}

// A sidecar that somebody has put beside a gateway, with the gateway for its app, registers the way back. The gateway sees that.
func TestGatewayIsRegisteredByMistake(t *testing.T) { eachEngine(t, gatewayByMistake) }

func gatewayByMistake(t *testing.T, engine string) {
	r := newGatewayRig(t, engine)
	r.hosts()
	p := r.start()
	r.gw.start("mistaken sidecar", append(append(r.gw.fly("machine-gw", r.a.addr), r.env...), "FLY_PROCESS_GROUP=gateway",
		"GRPC_BIND_ADDRESS="+r.gw.addr, "GRPC_PORT=50052", "FLYPROXY_LISTEN=localhost:50062", "FLYPROXY_ADMIN_LISTEN=[::1]:9062",
		"FLYPROXY_ADMIN_SOCKET=unix://"+filepath.Join(t.TempDir(), "mistaken.sock")), flyproxy)
	eventually(t, "the gateway is registered", func() bool { return slices.Contains(r.records(), "battle/machine-gw") })
	eventually(t, "the gateway sees itself", func() bool { return strings.Contains(p.output(), "an instance gets no calls from here") })
	before := total(r.gw.metrics(), "flyproxy_calls_total")
	const n = 200
	t.Log(r.calls(r.client(nil), n)) // mostly to one: the other has the stream of the mistaken sidecar's health check
	// The mistaken sidecar's health checks come through the gateway too, a few each second; a call that came back would count many times.
	if got := total(r.gw.metrics(), "flyproxy_calls_total") - before; got < n || got > n+50 {
		t.Errorf("%d calls were counted as %v", n, got)
	}
	out, err := r.from.run(flyproxy, "status", "--addr", "["+r.gw.addr+"]:9052")
	if err != nil || !strings.Contains(out, "gets no calls from here: its address is our own listener") &&
		!strings.Contains(out, "another gateway") {
		t.Errorf("status: %v\n%s", err, out)
	}
	t.Log("\n" + out)
	r.stop(p)
}

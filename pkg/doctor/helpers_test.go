package doctor_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/demo"
	"github.com/flyproxy/flyproxy/pkg/doctor"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
	"github.com/flyproxy/flyproxy/test/conformance/leak"
)

const patience = 30 * time.Second

// host is a Machine to examine: its environment, and what of the world is a parameter.
type host struct {
	env []string
	o   doctor.Options
}

// newHost is a host outside of Fly whose sidecar would listen on free ports; env adds to and overrides its environment.
func newHost(t testing.TB, env ...string) *host {
	t.Helper()
	leak.Check(t, "flyproxy/pkg/doctor.", "go-redis", "grpc.(*ClientConn)", "transport.(*http2Client)")
	return &host{
		env: append([]string{
			"FLYPROXY_SERVICE=battle", "FLYPROXY_INSTANCE_ID=m0", "FLYPROXY_REGION=ams", "FLYPROXY_UPSTREAM_CONNECT_TIMEOUT=5s",
			"FLYPROXY_LISTEN=" + redistest.Refusing(t), "FLYPROXY_ADMIN_LISTEN=" + redistest.Refusing(t),
		}, env...),
		o: doctor.Options{Version: "test", Timeout: patience},
	}
}

// examine runs the doctor.
func (h *host) examine(t testing.TB) *doctor.Report {
	t.Helper()
	h.o.Config = config.Options{Environ: h.env, Hostname: "here"}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := doctor.Run(ctx, h.o)
	return &r
}

// ids are those of all findings of a check, each once.
func ids(r *doctor.Report, check string) []string {
	var all []string
	for _, f := range r.Findings {
		if f.Check == check && !slices.Contains(all, f.ID) {
			all = append(all, f.ID)
		}
	}
	return all
}

// expect compares the IDs that a check has found with the ones given: none is to be missing and none to be too much.
func expect(t testing.TB, r *doctor.Report, check string, want ...string) {
	t.Helper()
	got, want := ids(r, check), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s found %q, want %q\n%s", check, got, want, show(t, r))
	}
}

// says checks that the finding with an ID speaks of something, in what it found or what to do.
func says(t testing.TB, r *doctor.Report, id string, parts ...string) {
	t.Helper()
	for _, f := range r.Findings {
		if f.ID != id {
			continue
		}
		text := f.Subject + ": " + f.Found + " -> " + f.Do
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%s does not say %q: %s", id, part, text)
			}
		}
		return
	}
	t.Errorf("no finding %s\n%s", id, show(t, r))
}

func show(t testing.TB, r *doctor.Report) string {
	t.Helper()
	var b strings.Builder
	if err := doctor.Render(&b, r, doctor.RenderOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// listen gives a listener on a free port of 127.0.0.1.
func listen(t testing.TB) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

func port(lis net.Listener) string { return fmt.Sprint(lis.Addr().(*net.TCPAddr).Port) }

// startApp runs the demo's app, with health and reflection.
func startApp(t testing.TB) (app *demo.App, lis net.Listener) {
	t.Helper()
	lis = listen(t)
	app = demo.NewApp("m0", "ams")
	serve(t, func() error { return app.Serve(lis) }, app.Stop)
	return app, lis
}

// startServer runs a gRPC server with what register puts into it.
func startServer(t testing.TB, register func(*grpc.Server), opts ...grpc.ServerOption) net.Listener {
	t.Helper()
	lis := listen(t)
	s := grpc.NewServer(opts...)
	register(s)
	serve(t, func() error { return s.Serve(lis) }, s.Stop)
	return lis
}

// serve runs a server until the end of the test.
func serve(t testing.TB, run func() error, stop func()) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- run() }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// stranger is a server that is no HTTP/2 server: it does with each connection what it is told, until that returns.
func stranger(t testing.TB, with func(net.Conn)) net.Listener {
	t.Helper()
	lis := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			with(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = lis.Close(); <-done })
	return lis
}

// register writes records as peers would.
func register(t testing.TB, cfg redis.Config, all ...registry.Instance) {
	t.Helper()
	s, err := redis.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, in := range all {
		if _, err := s.Register(t.Context(), in, time.Hour, true); err != nil {
			t.Fatal(err)
		}
	}
}

func instance(id, address string) registry.Instance {
	return registry.Instance{
		Service: "battle", ID: id, Incarnation: "i-" + id, Region: "ams", Address: address, State: registry.Serving, StartedAt: time.Now(),
	}
}

package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

func TestHealthIndexAndMetrics(t *testing.T) {
	base := "http://" + start(t, admin.Config{})
	if a := ask(t, "GET", base+"/health"); a.code != 200 || a.body != "ok\n" {
		t.Errorf("health: %+v", a)
	}
	if a := ask(t, "GET", base+"/metrics"); a.code != 200 || a.body != "a_metric 1\n" {
		t.Errorf("metrics: %+v", a)
	}
	a := ask(t, "GET", base+"/")
	for _, path := range []string{"/health", "/ready", "/cluster/status", "/metrics"} {
		if a.code != 200 || !strings.Contains(a.body, path+" ") {
			t.Errorf("index lacks %s: %+v", path, a)
		}
	}
	if a.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Errorf("index header: %v", a.header)
	}
}

func TestRealMetrics(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{Version: "1.2.3"})
	base := "http://" + start(t, admin.Config{Metrics: m.Handler()})
	m.CallStarted()
	m.CallEnded("api", "/p.S/M", 0, "ams", time.Millisecond)
	a := ask(t, "GET", base+"/metrics")
	if a.code != 200 || !strings.Contains(a.body, `flyproxy_calls_total{method="p.S/M",peer_region="ams",service="api",status="OK"} 1`) {
		t.Errorf("%d: %s", a.code, a.body)
	}
}

func TestReady(t *testing.T) {
	for _, c := range []struct {
		ready admin.Readiness
		code  int
		body  string
	}{
		{admin.Readiness{Ready: true}, 200, `{"ready":true,"degraded":false,"reasons":[]}`},
		{admin.Readiness{Ready: true, Degraded: true, Reasons: []string{"a < b"}}, 200, `{"ready":true,"degraded":true,"reasons":["a < b"]}`},
		{admin.Readiness{Reasons: []string{"draining"}}, 503, `{"ready":false,"degraded":false,"reasons":["draining"]}`},
	} {
		t.Run(fmt.Sprint(c.ready), func(t *testing.T) {
			base := "http://" + start(t, admin.Config{Ready: func() admin.Readiness { return c.ready }})
			a := ask(t, "GET", base+"/ready")
			if flat := strings.NewReplacer("\n", "", "  ", "", `": `, `":`).Replace(a.body); a.code != c.code || flat != c.body {
				t.Errorf("%d %s, want %d %s", a.code, flat, c.code, c.body)
			}
			if ct := a.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
				t.Errorf("content type %q", ct)
			}
		})
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	base := "http://" + start(t, admin.Config{})
	for _, path := range []string{"/", "/health", "/ready", "/cluster/status", "/metrics", "/none"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
			if a := ask(t, method, base+path); a.code != 405 || a.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, Allow %q", method, path, a.code, a.header.Get("Allow"))
			}
		}
		want := ask(t, "GET", base+path)
		if a := ask(t, "HEAD", base+path); a.code != want.code || a.body != "" || a.header.Get("Content-Type") != want.header.Get("Content-Type") {
			t.Errorf("HEAD %s: %d %q, GET gives %d", path, a.code, a.body, want.code)
		}
	}
}

func TestNotFoundNamesThePaths(t *testing.T) {
	base := "http://" + start(t, admin.Config{})
	if a := ask(t, "GET", base+"/status"); a.code != 404 || !strings.Contains(a.body, "/cluster/status") {
		t.Errorf("text: %+v", a)
	}
	a := ask(t, "GET", base+"/ready/", "Accept", "application/json")
	var body struct {
		Error string
		Paths []string
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || a.code != 404 || body.Error == "" || len(body.Paths) != 4 {
		t.Errorf("JSON: %v: %+v", err, a)
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	base := "http://" + start(t, admin.Config{})
	if a := ask(t, "GET", base+"/health", "X-Large", strings.Repeat("x", 64<<10)); a.code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", a.code)
	}
}

// The members' names are what scripts and other versions rely on.
func TestStatusMembers(t *testing.T) {
	base := "http://" + start(t, admin.Config{Status: func(context.Context) admin.Status { return cluster() }})
	a := ask(t, "GET", base+"/cluster/status")
	var got map[string]any
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.code != 200 {
		t.Fatalf("%d, %v: %s", a.code, err, a.body)
	}
	for path, want := range map[string]string{
		"":                   "counts instances loads_error readiness registry routing self",
		"self":               "apps engine instance_id listen mode region services started_at uptime_s version",
		"self.apps.0":        "address health inbound name reason registration service",
		"self.apps.0.health": "detail how since state",
		"readiness":          "degraded ready reasons",
		"registry":           "confirmed_at last_error latency_ms rejected source staleness_s state store version",
		"routing":            "picks policy unroutable",
		"counts":             "backed_off draining held known regions serving",
		"instances.1":        "address age_s app app_version held id labels load load_age_s process_group region self service state view weight",
		"instances.1.load":   "calls_per_second connections cpu error_rate in_flight memory p50_ms p99_ms",
		"instances.1.view":   "backed_off connections in_flight refusals",
	} {
		if names := members(t, got, path); names != want {
			t.Errorf("%s has\n%s\nwant\n%s", path, names, want)
		}
	}
}

func TestEmptyStatusHasLists(t *testing.T) {
	base := "http://" + start(t, admin.Config{})
	a := ask(t, "GET", base+"/cluster/status")
	for _, want := range []string{`"instances": []`, `"reasons": []`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("%s is missing: %s", want, a.body)
		}
	}
}

func TestStatusIsBoundedInTime(t *testing.T) {
	base := "http://" + start(t, admin.Config{
		StatusTimeout: 20 * time.Millisecond,
		Status: func(ctx context.Context) admin.Status {
			<-ctx.Done()
			return admin.Status{LoadsError: ctx.Err().Error()}
		},
	})
	if a := ask(t, "GET", base+"/cluster/status"); a.code != 200 || !strings.Contains(a.body, "deadline exceeded") {
		t.Errorf("%+v", a)
	}
}

func TestStatusThatCannotBeEncoded(t *testing.T) {
	base := "http://" + start(t, admin.Config{Status: func(context.Context) admin.Status {
		return admin.Status{Self: admin.Self{UptimeS: math.NaN()}}
	}})
	if a := ask(t, "GET", base+"/cluster/status"); a.code != 500 || !strings.Contains(a.body, "NaN") {
		t.Errorf("%+v", a)
	}
}

func TestNewWantsAllItNeeds(t *testing.T) {
	if _, err := admin.New(admin.Config{}); err == nil {
		t.Error("accepted")
	}
}

func full(l net.Listener) admin.Config {
	return admin.Config{
		Listener: l,
		Status:   func(context.Context) admin.Status { return admin.Status{} },
		Ready:    func() admin.Readiness { return admin.Readiness{} },
		Metrics:  http.NotFoundHandler(),
	}
}

func TestCloseBeforeServeFreesThePort(t *testing.T) {
	leakCheck(t)
	l := listen(t)
	s, err := admin.New(full(l))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	again, err := net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	defer again.Close()
	if err := s.Serve(); err != nil {
		t.Errorf("serve after close: %v", err)
	}
}

func TestServeReportsAListenerThatFailed(t *testing.T) {
	leakCheck(t)
	l := listen(t)
	s, err := admin.New(full(l))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := s.Serve(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	if s, err = admin.New(full(nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err == nil {
		t.Error("served without a listener")
	}
}

// A request that does not end is given the time that Close has, then cut off, and its context ends.
func TestCloseIsBounded(t *testing.T) {
	leakCheck(t)
	cfg := full(listen(t))
	entered, left := make(chan struct{}), make(chan struct{})
	cfg.StatusTimeout = time.Hour
	cfg.Status = func(ctx context.Context) admin.Status {
		close(entered)
		<-ctx.Done()
		close(left)
		return admin.Status{}
	}
	s, err := admin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	c, err := net.Dial("tcp", cfg.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /cluster/status HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("close: %v", err)
			}
		})
	}
	wg.Wait()
	<-left
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err == nil && strings.Contains(line, "200") {
		t.Errorf("answered %q after it was cut off", line)
	}
}

func TestNewInstanceAndCount(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	e := registry.Entry{Held: true, Instance: registry.Instance{
		Service: "api", ID: "a", Region: "ams", Address: "[fdaa::1]:50051", State: registry.Serving, StartedAt: now.Add(-1500 * time.Millisecond),
	}}
	i := admin.NewInstance(&e, now)
	if i.AgeS != 1.5 || i.Weight != registry.DefaultWeight || !i.Held || i.Address != e.Instance.Address {
		t.Errorf("%+v", i)
	}
	e.Instance.StartedAt = time.Time{}
	if i := admin.NewInstance(&e, now); i.AgeS != 0 {
		t.Errorf("an unknown start gives an age of %v", i.AgeS)
	}
	e.Instance.StartedAt = now.Add(time.Hour) // another Machine's clock
	if i := admin.NewInstance(&e, now); i.AgeS != 0 {
		t.Errorf("a start in the future gives an age of %v", i.AgeS)
	}
	i.SetLoad(registry.LoadReport{Load: registry.Load{CPU: 0.5}, Age: 2 * time.Second})
	if i.Load.CPU != 0.5 || *i.LoadAgeS != 2 {
		t.Errorf("load: %+v, %v", i.Load, i.LoadAgeS)
	}

	c := admin.Count(cluster().Instances)
	if c.Known != 6 || c.Serving != 5 || c.Draining != 1 || c.Held != 1 || c.BackedOff != 1 || c.Regions["ams"] != 2 {
		t.Errorf("%+v", c)
	}
	if got := admin.Milliseconds(1234567 * time.Nanosecond); got != 1.235 {
		t.Errorf("milliseconds: %v", got)
	}
}

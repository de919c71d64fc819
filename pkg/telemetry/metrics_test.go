package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

func call(m *telemetry.Metrics, service, method string, code uint32, region string) {
	m.CallStarted()
	m.CallEnded(service, method, code, region, 3*time.Millisecond)
}

// scrape gives the lines of the metrics whose name begins with prefix, without comments.
func scrape(t *testing.T, m *telemetry.Metrics, prefix string) string {
	t.Helper()
	srv := httptest.NewServer(m.Handler())
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", resp.Status, err, body)
	}
	var b strings.Builder
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, prefix) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func wantScrape(t *testing.T, m *telemetry.Metrics, prefix, want string) {
	t.Helper()
	if got := scrape(t, m, prefix); got != want {
		t.Errorf("%s: got\n%swant\n%s", prefix, got, want)
	}
}

func TestCallMetrics(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{})
	call(m, "api", "/shop.v1.Cart/Add", 0, "ams")
	call(m, "api", "/shop.v1.Cart/Add", 0, "ams")
	call(m, "api", "/shop.v1.Cart/Add", 14, "")
	call(m, "", "/shop.v1.Cart/Add", 99, "")
	m.CallStarted()
	wantScrape(t, m, "flyproxy_calls_total", ""+
		`flyproxy_calls_total{method="shop.v1.Cart/Add",peer_region="ams",service="api",status="OK"} 2`+"\n"+
		`flyproxy_calls_total{method="shop.v1.Cart/Add",peer_region="unknown",service="api",status="UNAVAILABLE"} 1`+"\n"+
		`flyproxy_calls_total{method="shop.v1.Cart/Add",peer_region="unknown",service="unknown",status="other"} 1`+"\n")
	wantScrape(t, m, "flyproxy_calls_in_flight", "flyproxy_calls_in_flight 1\n")
	wantScrape(t, m, `flyproxy_call_duration_seconds_bucket{method="shop.v1.Cart/Add",service="api",le="0.00`, ""+
		`flyproxy_call_duration_seconds_bucket{method="shop.v1.Cart/Add",service="api",le="0.0005"} 0`+"\n"+
		`flyproxy_call_duration_seconds_bucket{method="shop.v1.Cart/Add",service="api",le="0.001"} 0`+"\n"+
		`flyproxy_call_duration_seconds_bucket{method="shop.v1.Cart/Add",service="api",le="0.0025"} 0`+"\n"+
		`flyproxy_call_duration_seconds_bucket{method="shop.v1.Cart/Add",service="api",le="0.005"} 3`+"\n")
	if r := m.Window().Roll(); r.Calls != 4 || r.Failed != 2 || r.InFlight != 1 {
		t.Errorf("window: %+v", r)
	}
}

// labels counts the different values of a label in what was scraped.
func labels(text, label string) map[string]bool {
	out := make(map[string]bool)
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(line, label+`="`)
		if !ok {
			continue
		}
		value, _, _ := strings.Cut(rest, `"`)
		out[value] = true
	}
	return out
}

func TestMethodsAreBounded(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{MaxMethods: 10})
	for i := range 50 {
		call(m, "api", fmt.Sprintf("/p.S/M%d", i), 0, "ams")
	}
	text := scrape(t, m, "flyproxy_calls_total")
	if n := len(labels(text, "method")); n != 11 {
		t.Errorf("%d methods, want 10 and other:\n%s", n, text)
	}
	if !strings.Contains(text, `{method="other",peer_region="ams",service="api",status="OK"} 40`) {
		t.Errorf("the rest did not count as other:\n%s", text)
	}
}

// The number of series is bounded by the sum of the limits: each service may not bring all methods with it.
func TestPairsOfServiceAndMethodAreBounded(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{MaxMethods: 10, MaxServices: 5})
	for s := range 20 {
		for i := range 20 {
			call(m, fmt.Sprint("s", s), fmt.Sprintf("/p.S/M%d", i), 0, "ams")
		}
	}
	text := scrape(t, m, "flyproxy_calls_total")
	// 10 pairs, "other" of each of the 5 services, and other/other.
	if n := strings.Count(text, "\n"); n > 16 {
		t.Errorf("%d series:\n%s", n, text)
	}
	if n := len(labels(text, "service")); n != 6 {
		t.Errorf("%d services, want 5 and other", n)
	}
}

func TestRegionsAreBounded(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{MaxRegions: 3})
	for i := range 10 {
		call(m, "api", "/p.S/M", 0, fmt.Sprint("r", i))
	}
	wantScrape(t, m, "flyproxy_calls_total", ""+
		`flyproxy_calls_total{method="p.S/M",peer_region="other",service="api",status="OK"} 7`+"\n"+
		`flyproxy_calls_total{method="p.S/M",peer_region="r0",service="api",status="OK"} 1`+"\n"+
		`flyproxy_calls_total{method="p.S/M",peer_region="r1",service="api",status="OK"} 1`+"\n"+
		`flyproxy_calls_total{method="p.S/M",peer_region="r2",service="api",status="OK"} 1`+"\n")
}

// Whatever is sent to the port, and however early, the methods that work get labels.
func TestFailingCallsDoNotTakeAllPlaces(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{MaxMethods: 10, MaxServices: 4})
	for i := range 1000 {
		call(m, fmt.Sprint("guess", i), fmt.Sprintf("/guess/M%d", i), 12, "")
	}
	call(m, "api", "/p.S/Real", 0, "ams")
	text := scrape(t, m, "flyproxy_calls_total")
	if !strings.Contains(text, `{method="p.S/Real",peer_region="ams",service="api",status="OK"} 1`) {
		t.Errorf("the real method has no label:\n%s", text)
	}
	if n := len(labels(text, "service")); n != 2+1+1 {
		t.Errorf("%d services:\n%s", n, text)
	}
}

func TestOddNamesAreOther(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{})
	for _, method := range []string{
		"", "/", "//", "/a", "/a/", "a/b", "/a/b/c", "/a/b?c", "/a b/c", "/a/b\n", "/a/\xff", "/\u00fc/b", "/a/" + strings.Repeat("x", 200), "*", "other",
	} {
		call(m, "api", method, 0, "ams")
	}
	wantScrape(t, m, "flyproxy_calls_total", `flyproxy_calls_total{method="other",peer_region="ams",service="api",status="OK"} 15`+"\n")

	m = telemetry.NewMetrics(telemetry.MetricsConfig{})
	call(m, "a\xffb", "/p.S/M", 0, "a\xff")
	call(m, "api", "/p.S/M", 0, "a\nb")
	wantScrape(t, m, "flyproxy_calls_total", ""+
		`flyproxy_calls_total{method="other",peer_region="other",service="other",status="OK"} 1`+"\n"+
		`flyproxy_calls_total{method="p.S/M",peer_region="other",service="api",status="OK"} 1`+"\n")
}

func TestCallsDoNotAllocate(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{MaxMethods: 2, MaxServices: 2, MaxRegions: 1})
	for name, c := range map[string][3]string{
		"known":         {"api", "/p.S/M", "ams"},
		"method beyond": {"api", "/p.S/Other", "ams"},
		"all beyond":    {"zzz", "/x/y", "zzz"},
		"nothing known": {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, fill := range []string{"/p.S/M", "/p.S/M2"} {
				call(m, "api", fill, 0, "ams")
				call(m, "web", fill, 0, "ams")
			}
			call(m, c[0], c[1], 14, c[2])
			if n := testing.AllocsPerRun(100, func() { call(m, c[0], c[1], 14, c[2]) }); n != 0 {
				t.Errorf("%v allocations a call", n)
			}
		})
	}
}

func TestCallsAtOnce(t *testing.T) {
	const goroutines, each = 8, 500
	m := telemetry.NewMetrics(telemetry.MetricsConfig{MaxMethods: 20, MaxServices: 4, MaxRegions: 4})
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				n := i*7 + g
				call(m, fmt.Sprint("s", n%6), fmt.Sprintf("/p.S/M%d", n%30), uint32(n%20), fmt.Sprint("r", n%6))
			}
		})
	}
	wg.Wait()
	text := scrape(t, m, "flyproxy_calls_total")
	sum := 0
	for line := range strings.Lines(text) {
		var n int
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n); err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if sum != goroutines*each {
		t.Errorf("%d calls counted, want %d", sum, goroutines*each)
	}
	if n := len(labels(text, "peer_region")); n != 5 {
		t.Errorf("%d regions, want 4 and other", n)
	}
}

func TestRegistryMetrics(t *testing.T) {
	refused := errors.New("refused")
	m := telemetry.NewMetrics(telemetry.MetricsConfig{RegistryErrorKind: func(err error) string {
		switch {
		case errors.Is(err, context.Canceled):
			return ""
		case errors.Is(err, refused):
			return "refused"
		}
		return "other"
	}})
	m.ObserveRegistry("beat", time.Millisecond, nil)
	m.ObserveRegistry("beat", time.Millisecond, fmt.Errorf("beat: %w", refused))
	m.ObserveRegistry("beat", time.Millisecond, context.Canceled)
	m.ObserveRegistry("snapshot", time.Millisecond, errors.New("odd"))
	wantScrape(t, m, "flyproxy_registry_errors_total", ""+
		`flyproxy_registry_errors_total{kind="other",op="snapshot"} 1`+"\n"+
		`flyproxy_registry_errors_total{kind="refused",op="beat"} 1`+"\n")
	wantScrape(t, m, "flyproxy_registry_duration_seconds_count", ""+
		`flyproxy_registry_duration_seconds_count{op="beat"} 3`+"\n"+
		`flyproxy_registry_duration_seconds_count{op="snapshot"} 1`+"\n")
}

func TestCodeName(t *testing.T) {
	for code, want := range map[uint32]string{0: "OK", 1: "CANCELLED", 8: "RESOURCE_EXHAUSTED", 14: "UNAVAILABLE", 16: "UNAUTHENTICATED", 17: "CODE_17"} {
		if got := telemetry.CodeName(code); got != want {
			t.Errorf("%d is %s, want %s", code, got, want)
		}
	}
}

func TestMetricsPassTheLinter(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{Version: "1.2.3", Revision: "abc"})
	if err := m.Read(sources()); err != nil {
		t.Fatal(err)
	}
	call(m, "api", "/p.S/M", 0, "ams")
	m.ObserveRegistry("beat", time.Millisecond, errors.New("odd"))
	problems, err := testutil.GatherAndLint(m.Registry())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, prefix := range []string{"go_goroutines", "process_cpu_seconds_total", `flyproxy_build_info{go_version="go`} {
		if scrape(t, m, prefix) == "" {
			t.Errorf("%s is missing", prefix)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			call(m, "api", "/shop.v1.Cart/Add", 0, "ams")
		}
	})
}

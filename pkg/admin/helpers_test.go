package admin_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
)

// leakCheck fails the test if goroutines of this package or of net/http are left when it ends; the tests' own do not count.
func leakCheck(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		var left string
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if left = leftOver(); left == "" {
				return
			}
		}
		t.Errorf("goroutines are left:\n%s", left)
	})
}

func leftOver() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if !strings.Contains(g, "testing.tRunner(") && (strings.Contains(g, "pkg/admin") || strings.Contains(g, "net/http.")) {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start serves cfg, with what it lacks filled in, until the test ends. It gives the address.
func start(t *testing.T, cfg admin.Config) string {
	t.Helper()
	leakCheck(t)
	if cfg.Status == nil {
		cfg.Status = func(context.Context) admin.Status { return admin.Status{} }
	}
	if cfg.Ready == nil {
		cfg.Ready = func() admin.Readiness { return admin.Readiness{Ready: true} }
	}
	if cfg.Metrics == nil {
		cfg.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a_metric 1\n") })
	}
	cfg.Listener = listen(t)
	s, err := admin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return cfg.Listener.Addr().String()
}

type answer struct {
	code   int
	header http.Header
	body   string
}

func ask(t *testing.T, method, url string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

package admin_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
)

// startControl serves on a socket until the test ends.
func startControl(t *testing.T, cfg admin.ControlConfig) (path string) {
	t.Helper()
	leakCheck(t)
	path = filepath.Join(t.TempDir(), "c.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener = l
	c, err := admin.NewControl(cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- c.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(c.Close(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
	return path
}

func nothing(context.Context, admin.Asker) error { return nil }

func TestControlDoesWhatIsAskedFor(t *testing.T) {
	var withdrawn, restored atomic.Int32
	path := startControl(t, admin.ControlConfig{
		Withdraw: func(_ context.Context, by admin.Asker) error {
			if by == admin.ByOperator {
				withdrawn.Add(1)
			}
			return nil
		},
		Restore: func(_ context.Context, by admin.Asker) error {
			if by == admin.ByStop {
				restored.Add(1)
			}
			return errors.New("the registry is away")
		},
	})
	if err := admin.AskControl(t.Context(), path, admin.PathWithdraw, admin.ByOperator); err != nil || withdrawn.Load() != 1 || restored.Load() != 0 {
		t.Errorf("%v, withdrawn %d, restored %d", err, withdrawn.Load(), restored.Load())
	}
	err := admin.AskControl(t.Context(), path, admin.PathRestore, admin.ByStop)
	if err == nil || err.Error() != "the sidecar says: the registry is away" || restored.Load() != 1 {
		t.Errorf("%v, restored %d", err, restored.Load())
	}
}

// A change is never made by a GET, which a browser or a scraper may send.
func TestControlTakesNothingButPOST(t *testing.T) {
	touched := func(context.Context, admin.Asker) error { t.Error("something was done"); return nil }
	path := startControl(t, admin.ControlConfig{Withdraw: touched, Restore: touched})
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	for _, tt := range []struct {
		method, path string
		code         int
	}{{"GET", "/withdraw", 405}, {"HEAD", "/restore", 405}, {"DELETE", "/withdraw", 405}, {"POST", "/", 404}, {"POST", "/withdraw", 400}, {"POST", "/restore?by=me", 400}, {"POST", "/withdraw/now", 404}} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://x"+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.code {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, resp.StatusCode, tt.code)
		}
	}
}

// Who asked and went away must not leave a withdrawal half done.
func TestControlFinishesWhenTheAskerLeaves(t *testing.T) {
	begun, done := make(chan struct{}), make(chan error, 1)
	path := startControl(t, admin.ControlConfig{Restore: nothing, Withdraw: func(ctx context.Context, _ admin.Asker) error {
		close(begun)
		timer := time.NewTimer(50 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		done <- ctx.Err()
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { asked <- admin.AskControl(ctx, path, admin.PathWithdraw, admin.ByOperator) }()
	<-begun
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("the asker got %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("the withdrawal was cut off: %v", err)
	}
}

func TestAskControlErrors(t *testing.T) {
	hangs := startControl(t, admin.ControlConfig{Restore: nothing, Withdraw: func(ctx context.Context, _ admin.Asker) error {
		<-t.Context().Done()
		return nil
	}})
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := filepath.Join(dir, "stranger")
	l, err := net.Listen("unix", stranger)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })}
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-served })
	for _, tt := range []struct{ path, want string }{
		{filepath.Join(dir, "none"), "there is no control socket at"},
		{file, "nobody answers on the control socket"},
		{stranger, "is no control socket of flyproxy"},
		{hangs, "in time"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if tt.path == stranger {
			ctx = t.Context()
		}
		if err := admin.AskControl(ctx, tt.path, admin.PathWithdraw, admin.ByOperator); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q in it", err, tt.want)
		}
		cancel()
	}
}

func TestControlNeedsAllOfIt(t *testing.T) {
	if _, err := admin.NewControl(admin.ControlConfig{Withdraw: nothing, Restore: nothing}); err == nil {
		t.Error("made without a listener")
	}
}

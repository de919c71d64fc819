package sidecar_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
)

// listed is the environment of a sidecar whose registry is a list of the app at that port.
func listed(port string) []string {
	return []string{"GRPC_PORT=" + port, `FLYPROXY_REGISTRY_STATIC=[{service: battle, id: app, address: "127.0.0.1:` + port + `"}]`}
}

func TestSeveralListeners(t *testing.T) {
	for _, engine := range []string{"relay", "grpc"} {
		t.Run(engine, func(t *testing.T) {
			_, port := serveApp(t, "app")
			dir := t.TempDir()
			open, closed := filepath.Join(dir, "open.sock"), filepath.Join(dir, "closed.sock")
			s, _, stop := run(t, load(t, append(listed(port), "FLYPROXY_ENGINE="+engine, "FLYPROXY_LISTEN_SOCKET_MODE=0606",
				"FLYPROXY_LISTEN=unix://"+open+",127.0.0.1:0,unix://"+closed+",127.0.0.1:0")...))
			await(t, "the app is known", func() bool { return s.Known("battle") == 1 })
			if got := s.Addresses(); len(got) != 4 || got[0] != "unix://"+open || got[2] != "unix://"+closed {
				t.Fatalf("addresses %q", got)
			}
			for _, address := range s.Addresses() { // which a client dials as they are
				cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				reply, err := greeterv1.NewGreeterClient(cc).Hello(ctx, &greeterv1.HelloRequest{})
				cancel()
				_ = cc.Close()
				if err != nil || reply.GetInstance() != "app" {
					t.Errorf("%s: %v %v", address, reply, err)
				}
			}
			for _, path := range []string{open, closed} {
				info, err := os.Stat(path)
				if err != nil || info.Mode() != fs.ModeSocket|0o606 {
					t.Errorf("%s: %v %v", path, info, err)
				}
			}
			stop()
			for _, path := range []string{open, closed} {
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s after the end: %v", path, err)
				}
			}
		})
	}
}

// leave leaves a socket on which nobody accepts any more, as a process does that was killed.
func leave(t *testing.T, path string) {
	t.Helper()
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	lis.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = lis.Close()
}

func TestASocketOfADeadProcessIsReplaced(t *testing.T) {
	_, port := serveApp(t, "app")
	path := filepath.Join(t.TempDir(), "f.sock")
	leave(t, path)
	s, log, _ := run(t, load(t, append(listed(port), "FLYPROXY_LISTEN=unix://"+path)...))
	await(t, "the app is known", func() bool { return s.Known("battle") == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := greeterv1.NewGreeterClient(connect(t, s)).Hello(ctx, &greeterv1.HelloRequest{}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "was replaced") {
		t.Error("the log does not say that a socket was replaced")
	}
}

func TestWhatStandsInASocketsPlace(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	inUse, err := net.Listen("unix", path("live.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer inUse.Close()
	if err := os.WriteFile(path("file"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path("folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"live.sock":         "is in use by another process (another flyproxy?): stop that one, or set listen (or FLYPROXY_LISTEN) to another path",
		"file":              "there is something else, which is not a socket: move that away, or set listen (or FLYPROXY_LISTEN) to another path",
		"folder":            "there is something else, which is not a socket",
		"nowhere/f.sock":    "there is no folder " + path("nowhere") + ": make it, or set listen (or FLYPROXY_LISTEN) to another path",
		"file/f.sock":       path("file") + " is not a folder: set listen (or FLYPROXY_LISTEN) to another path",
		"free,live.sock":    "is in use by another process",
		"live.sock,another": "is in use by another process",
	} {
		var addresses []string
		for _, one := range strings.Split(name, ",") {
			addresses = append(addresses, "unix://"+path(one))
		}
		_, err := sidecar.New(load(t, append(listed("1"), "FLYPROXY_LISTEN="+strings.Join(addresses, ","))...),
			sidecar.Options{Logger: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.HasPrefix(err.Error(), "listen: unix://") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", name, err, want)
		}
	}
	if c, err := net.Dial("unix", path("live.sock")); err != nil {
		t.Errorf("the socket in use: %v", err)
	} else {
		_ = c.Close()
	}
	if b, err := os.ReadFile(path("file")); err != nil || string(b) != "precious" {
		t.Errorf("the file: %q %v", b, err)
	}
	if _, err := os.Lstat(path("free")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a socket that was bound before the fault was found: %v", err)
	}
}

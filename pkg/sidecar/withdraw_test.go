package sidecar_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
)

func TestWithdrawAndRestoreOnTheControlSocket(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	_, port := serveApp(t, "m0")
	socket := filepath.Join(t.TempDir(), "control.sock")
	s, _, stop := run(t, load(t, "REDIS_URL=redis://"+redis.Addr(), "GRPC_PORT="+port, "FLYPROXY_ADMIN_SOCKET=unix://"+socket))
	await(t, "registered", func() bool { return s.Known("battle") == 1 })
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := admin.AskControl(t.Context(), socket, admin.PathWithdraw, admin.ByOperator); err != nil {
		t.Fatal(err)
	}
	if n := s.Known("battle"); n != 0 {
		t.Errorf("%d known after the withdrawal and its time to settle", n)
	}
	if r := s.Ready(); !r.Ready || !r.Degraded || !strings.Contains(strings.Join(r.Reasons, ""), "withdrawn on request") {
		t.Errorf("%+v", r)
	}
	if err := admin.AskControl(t.Context(), socket, admin.PathRestore, admin.ByOperator); err != nil {
		t.Fatal(err)
	}
	await(t, "registered again", func() bool { return s.Known("battle") == 1 })
	stop()
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket's file is left: %v", err)
	}
}

// A Redis that is away must not hold up who wants to stop.
func TestWithdrawDoesNotWaitLongForTheRegistry(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	_, port := serveApp(t, "m0")
	s, _, _ := run(t, load(t, "REDIS_URL=redis://"+redis.Addr(), "GRPC_PORT="+port, "FLYPROXY_DRAIN_SETTLE=1m"))
	await(t, "registered", func() bool { return s.Known("battle") == 1 })
	redis.Pause()
	err := s.Withdraw(t.Context(), sidecar.ByStop) // not for a minute: nobody can learn of it
	redis.Resume()
	if err == nil || !strings.Contains(err.Error(), "its lease of 600ms ends it") {
		t.Errorf("%v", err)
	}
}

func TestControlSocketThatCannotBe(t *testing.T) {
	socket := "unix://" + filepath.Join(t.TempDir(), "missing", "control.sock")
	_, err := sidecar.New(load(t, "FLYPROXY_REGISTRATION_ENABLED=false", "REDIS_URL=redis://127.0.0.1:1", "FLYPROXY_ADMIN_SOCKET="+socket),
		sidecar.Options{Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "FLYPROXY_ADMIN_SOCKET") {
		t.Errorf("%v", err)
	}
}

// A Redis that hangs holds a command for longer than its context; the end must not wait for it, or the platform's own limit is passed.
func TestEndDoesNotWaitForACommandThatHangs(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	_, port := serveApp(t, "m0")
	s, _, stop := run(t, load(t, "REDIS_URL=redis://"+redis.Addr(), "GRPC_PORT="+port, "FLYPROXY_DRAIN_TIMEOUT=200ms",
		"FLYPROXY_REGISTRY_REDIS_TIMEOUT=1m", "FLYPROXY_REGISTRATION_INTERVAL=50ms", "FLYPROXY_REGISTRATION_LEASE=30s"))
	await(t, "registered", func() bool { return s.Known("battle") == 1 })
	redis.Pause()
	defer redis.Resume()
	// A beat is under way: one comes every 50 ms, and none is answered any more.
	before := time.Now()
	await(t, "a beat hangs", func() bool { return time.Since(before) > 200*time.Millisecond })
	began := time.Now()
	stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

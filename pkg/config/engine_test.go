package config_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
)

func warnings(cfg *config.Config) []string {
	var all []string
	for _, w := range cfg.Warnings {
		all = append(all, w.String())
	}
	return all
}

// What a key says and the engine does not do is said at the start, and only that.
func TestKeysThatTheGRPCEngineDoesNotHonour(t *testing.T) {
	const file = `engine: grpc
retry:
  methods: [/a.B/C]
  attempts: 3
limits:
  max_calls: 5
  max_connections: 1024
  max_concurrent_streams: 7
  handshake_timeout: 1s
`
	wantLines(t, warnings(mustLoad(t, file, good("FLYPROXY_LIMITS_MAX_REPLAY_BYTES=1MiB")...)), []string{
		"flyproxy.yaml:3: retry.methods: not used: the engine grpc has no means for it; engine: relay does",
		"flyproxy.yaml:6: limits.max_calls: not used: the engine grpc has no means for it; engine: relay does",
		"FLYPROXY_LIMITS_MAX_REPLAY_BYTES: limits.max_replay_bytes: not used: the engine grpc has no means for it; engine: relay does",
		"flyproxy.yaml:9: limits.handshake_timeout: not used: the engine grpc has no means for it; engine: relay does",
	})
	wantLines(t, warnings(mustLoad(t, file, good("FLYPROXY_ENGINE=relay")...)), nil)
}

func TestLimitsAndRetry(t *testing.T) {
	cfg := mustLoad(t, `
engine: relay
retry:
  methods: [/a.v1.B/Get, /a.v1.C/*]
  attempts: 4
  budget: 0.5
limits: {max_header_bytes: 64KiB, max_buffered_bytes: 1MiB, client_idle_timeout: 2h, max_queued_control_frames: 500}
access_log: {slow: 0s, failed: false, per_second: 3}
`, good()...)
	if want := (config.Retry{Methods: []string{"/a.v1.B/Get", "/a.v1.C/*"}, Attempts: 4, Budget: 0.5}); !reflect.DeepEqual(cfg.Retry, want) {
		t.Errorf("retry: %+v", cfg.Retry)
	}
	want := config.Limits{
		MaxHeaderBytes: 64 << 10, MaxConcurrentStreams: 16384, MaxCalls: 16384, MaxConnections: 1024, MaxBufferedBytes: 1 << 20,
		MaxReplayBytes: 8 << 20, MaxResetsPerSecond: 10_000, MaxQueuedControlFrames: 500, HandshakeTimeout: 10 * time.Second,
		ClientIdleTimeout: 2 * time.Hour, MemoryShare: 0.25,
	}
	if cfg.Limits != want {
		t.Errorf("limits: %+v", cfg.Limits)
	}
	if cfg.AccessLog != (config.AccessLog{PerSecond: 3}) {
		t.Errorf("access log: %+v", cfg.AccessLog)
	}
}

func TestLimitsAndRetryFaults(t *testing.T) {
	const form = ": not the full name of a gRPC method; write /package.Service/Method, or /package.Service/* for all of that service"
	for _, tt := range []struct {
		set  string
		want string
	}{
		{"RETRY_METHODS=a.B/C", `retry.methods = "a.B/C": item 1, "a.B/C"` + form},
		{"RETRY_METHODS=/a.B/C,/*", `retry.methods = "/a.B/C,/*": item 2, "/*"` + form},
		{"RETRY_METHODS=/a.B", `retry.methods = "/a.B": item 1, "/a.B"` + form},
		{"RETRY_METHODS=/a.B/C/D", `retry.methods = "/a.B/C/D": item 1, "/a.B/C/D"` + form},
		{"RETRY_METHODS=/a.B/", `retry.methods = "/a.B/": item 1, "/a.B/"` + form},
		{"RETRY_METHODS=//C", `retry.methods = "//C": item 1, "//C"` + form},
		{"RETRY_METHODS=*", `retry.methods = "*": item 1, "*"` + form},
		{"RETRY_METHODS=/a.*/C", `retry.methods = "/a.*/C": item 1, "/a.*/C"` + form},
		{"RETRY_ATTEMPTS=1", `retry.attempts = "1": below 2; write a value from 2 to 10`},
		{"RETRY_BUDGET=0", `retry.budget = "0": below 0.01; write a value from 0.01 to 1`},
		{"LIMITS_MAX_CONCURRENT_STREAMS=0", `limits.max_concurrent_streams = "0": below 1; write a value from 1 to 1000000`},
		{"LIMITS_MAX_CALLS=-1", `limits.max_calls = "-1": below 1; write a value from 1 to 10000000`},
		{"LIMITS_MAX_BUFFERED_BYTES=1", `limits.max_buffered_bytes = "1": below 64KiB; write a value from 64KiB to 64GiB`},
		{"LIMITS_HANDSHAKE_TIMEOUT=0s", `limits.handshake_timeout = "0s": below 100ms; write a value from 100ms to 5m`},
		{"ACCESS_LOG_SLOW=-1s", `access_log.slow = "-1s": below 0s; write a value from 0s to 24h`},
		{"ACCESS_LOG_PER_SECOND=0", `access_log.per_second = "0": below 1; write a value from 1 to 10000`},
	} {
		name, _, _ := strings.Cut(tt.set, "=")
		wantLines(t, faults(t, "", good("FLYPROXY_"+tt.set)...), []string{"FLYPROXY_" + name + ": " + tt.want})
	}
}

func TestUnixSockets(t *testing.T) {
	cfg := mustLoad(t, "listen: ['unix:///run/flyproxy.sock', 'localhost:1', 'unix:///run/b.sock']\nlisten_socket_mode: 0600\n", good()...)
	wantLines(t, cfg.ListenAddresses(), []string{"unix:///run/flyproxy.sock", "127.0.0.1:1", "[::1]:1", "unix:///run/b.sock"})
	if path, ok := config.SocketPath(cfg.ListenAddresses()[0]); !ok || path != "/run/flyproxy.sock" {
		t.Errorf("path %q, %v", path, ok)
	}
	if _, ok := config.SocketPath("127.0.0.1:1"); ok {
		t.Error("a host and a port have the path of a socket")
	}
	if mode := cfg.SocketFileMode(); mode != 0o600 {
		t.Errorf("mode %o", mode)
	}
	if mode := mustLoad(t, "", good()...).SocketFileMode(); mode != 0o660 {
		t.Errorf("mode by default %o", mode)
	}
	const form = "write unix:// and an absolute path, such as unix:///run/flyproxy.sock"
	for said, want := range map[string]string{
		"unix:/run/f.sock":   `listen = "unix:/run/f.sock": not an absolute path; ` + form,
		"unix://run/f.sock":  `listen = "unix://run/f.sock": not an absolute path; ` + form,
		"unix:f.sock":        `listen = "unix:f.sock": not an absolute path; ` + form,
		"unix://":            `listen = "unix://": not an absolute path; ` + form,
		"/run/f.sock":        `listen = "/run/f.sock": a path without unix:// before it; write unix:///run/f.sock`,
		"unix:///run/":       `listen = "unix:///run/": a folder, not a file; ` + form,
		"unix:///run/f?x=1":  `listen = "unix:///run/f?x=1": a path with ? # % or a zero byte, which clients cannot dial; ` + form,
		"unix-abstract:name": `listen = "unix-abstract:name": a socket without a file, which everybody on this host may use; ` + form,
		"unix:///" + strings.Repeat("n", 107): `listen = "unix:///` + strings.Repeat("n", 72) +
			`…": a path of 108 bytes, and the system takes 107; write a shorter one`,
		"unix:///run/a.sock,unix:///run/../run/a.sock": `listen = "unix:///run/../run/a.sock": the same socket as listen = "unix:///run/a.sock"; ` +
			"give each its own",
	} {
		wantLines(t, faults(t, "", good("FLYPROXY_LISTEN="+said)...), []string{"FLYPROXY_LISTEN: " + want})
	}
	for _, mode := range []string{"rw", "888", "66", "01777", "-660"} {
		wantLines(t, faults(t, "", good("FLYPROXY_LISTEN_SOCKET_MODE="+mode)...), []string{
			`FLYPROXY_LISTEN_SOCKET_MODE: listen_socket_mode = "` + mode + `": not the permissions of a file; write three octal digits after a 0, such as 0660`,
		})
	}
	wantLines(t, warnings(mustLoad(t, "", good("FLYPROXY_LISTEN_SOCKET_MODE=0600")...)), []string{
		"FLYPROXY_LISTEN_SOCKET_MODE: listen_socket_mode: not used: listen has no unix socket",
	})
}

package sidecar

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// Each key reaches the setting that it is for, and no setting is without a key.
func TestConfigurationReachesTheRelay(t *testing.T) {
	cfg, err := config.Load(config.Options{
		Environ: []string{
			"FLYPROXY_SERVICE=s", "REDIS_HOST=r", "FLYPROXY_LIMITS_MAX_HEADER_BYTES=5KiB", "FLYPROXY_LIMITS_MAX_CONCURRENT_STREAMS=2",
			"FLYPROXY_LIMITS_MAX_CALLS=3", "FLYPROXY_LIMITS_MAX_CONNECTIONS=4", "FLYPROXY_LIMITS_MAX_BUFFERED_BYTES=65KiB",
			"FLYPROXY_LIMITS_MAX_REPLAY_BYTES=66KiB", "FLYPROXY_LIMITS_MAX_RESETS_PER_SECOND=5",
			"FLYPROXY_LIMITS_MAX_QUEUED_CONTROL_FRAMES=600", "FLYPROXY_LIMITS_HANDSHAKE_TIMEOUT=7s",
			"FLYPROXY_LIMITS_CLIENT_IDLE_TIMEOUT=8s", "FLYPROXY_RETRY_METHODS=/a.B/C", "FLYPROXY_RETRY_ATTEMPTS=9",
			"FLYPROXY_RETRY_BUDGET=0.1", "FLYPROXY_UPSTREAM_CONNECT_TIMEOUT=11s", "FLYPROXY_UPSTREAM_MAX_CONNECTIONS_PER_PEER=12",
			"FLYPROXY_UPSTREAM_IDLE_TIMEOUT=13s", "FLYPROXY_UPSTREAM_DEAD_AFTER=14s",
		},
		ReadFile: func(string) ([]byte, error) { return nil, fs.ErrNotExist },
	})
	if err != nil {
		t.Fatal(err)
	}
	got := (&Sidecar{cfg: cfg, loops: &loops{}}).relayConfig()
	limits := relay.Limits{
		HeaderBytes: 5 << 10, StreamsPerConnection: 2, Calls: 3, Connections: 4, BufferedBytes: 65 << 10, ReplayBytes: 66 << 10,
		ResetsPerSecond: 5, ControlFrames: 600, HandshakeTimeout: 7 * time.Second, ClientIdleTimeout: 8 * time.Second,
	}
	if got.Limits != limits {
		t.Errorf("limits %+v\nwant   %+v", got.Limits, limits)
	}
	retry := relay.Retry{Methods: []string{"/a.B/C"}, Attempts: 9, Budget: 0.1}
	if !reflect.DeepEqual(got.Retry, retry) {
		t.Errorf("retry %+v, want %+v", got.Retry, retry)
	}
	if got.ConnectTimeout != 11*time.Second || got.MaxConnectionsPerPeer != 12 || got.IdleTimeout != 13*time.Second ||
		got.DeadAfter != 14*time.Second {
		t.Errorf("upstream %+v", got)
	}
	for _, v := range []reflect.Value{reflect.ValueOf(got.Limits), reflect.ValueOf(got.Retry)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s.%s has no key", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}

// The names in flyproxy_limit_hits_total are keys of the configuration, and each limit is counted from 0 on: an alert on a counter's
// growth misses a first step from nothing.
func TestLimitsAreNamedByTheirKeys(t *testing.T) {
	router, err := routing.New(routing.Config{Service: "s", Policy: routing.RoundRobin, SelfMode: routing.SelfLast})
	if err != nil {
		t.Fatal(err)
	}
	e, err := relay.New(relay.Config{Router: router})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	counted := e.Stats().Limits
	for _, k := range config.Keys() {
		name, ok := strings.CutPrefix(k.Path, "limits.")
		if !ok || name == "memory_share" { // which is the Go runtime's
			continue
		}
		if n, ok := counted[name]; !ok || n != 0 {
			t.Errorf("limits.%s is counted as %d, %v", name, n, ok)
		}
		delete(counted, name)
	}
	for name := range counted {
		t.Errorf("%s is counted and no key", name)
	}
}

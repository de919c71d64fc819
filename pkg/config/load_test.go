package config_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// fly is the environment of a Machine.
func flyEnv(more ...string) []string {
	return append([]string{
		"FLY_APP_NAME=shop", "FLY_MACHINE_ID=148e", "FLY_REGION=fra", "FLY_PRIVATE_IP=fdaa:0:1::2", "FLY_PROCESS_GROUP=app",
		"FLY_IMAGE_REF=img:1", "FLY_VM_MEMORY_MB=512", "REDIS_URL=redis://redis.example",
	}, more...)
}

func TestDefaultsOnFly(t *testing.T) {
	cfg := mustLoad(t, "", flyEnv()...)
	for _, tt := range []struct{ key, got, want, source string }{
		{"service", cfg.Service, "shop", "FLY_APP_NAME"},
		{"instance_id", cfg.InstanceID, "148e", "FLY_MACHINE_ID"},
		{"region", cfg.Region, "fra", "FLY_REGION"},
		{"registration.process_group", cfg.Registration.ProcessGroup, "app", "FLY_PROCESS_GROUP"},
		{"registration.app_version", cfg.Registration.AppVersion, "img:1", "FLY_IMAGE_REF"},
		{"admin.listen", cfg.Admin.Listen, "[::]:9052", "default on Fly"},
		{"apps[0].service", cfg.Apps[0].Service, "shop", "FLY_APP_NAME"},
		{"apps[0].address", cfg.Apps[0].Address, "127.0.0.1:50051", "default"},
		{"registry.store", cfg.Registry.Store, config.StoreRedis, "default (auto)"},
	} {
		if tt.got != tt.want || cfg.Source(tt.key) != tt.source {
			t.Errorf("%s: %q from %q, want %q from %q", tt.key, tt.got, cfg.Source(tt.key), tt.want, tt.source)
		}
	}
	if got := cfg.Registry.Networks(); len(got) != 1 || got[0] != netip.MustParsePrefix("fdaa::/16") {
		t.Errorf("networks: %v", got)
	}
	if !cfg.Fly.OnFly || cfg.Fly.MemoryMB != 512 {
		t.Errorf("environment: %+v", cfg.Fly)
	}
	if got, err := cfg.AdvertisedAddress(cfg.Apps[0], ""); err != nil || got != "[fdaa:0:1::2]:50051" {
		t.Errorf("advertised: %q, %v", got, err)
	}
	want := []string{"127.0.0.1:50052", "[::1]:50052"}
	if got := cfg.ListenAddresses(); !reflect.DeepEqual(got, want) {
		t.Errorf("listen: %q", got)
	}
}

func TestDefaultsElsewhere(t *testing.T) {
	cfg := mustLoad(t, "", good()...)
	if !regexp.MustCompile(`^box-[0-9a-f]{8}$`).MatchString(cfg.InstanceID) || cfg.Source("instance_id") != "generated" {
		t.Errorf("instance id %q from %q", cfg.InstanceID, cfg.Source("instance_id"))
	}
	if again := mustLoad(t, "", good()...); again.InstanceID == cfg.InstanceID {
		t.Errorf("two processes have the id %q", again.InstanceID)
	}
	if cfg.Admin.Listen != "127.0.0.1:9052" || len(cfg.Registry.Networks()) != 0 || cfg.Region != "" || cfg.Fly.OnFly {
		t.Errorf("%+v", cfg)
	}
	if got, err := cfg.AdvertisedAddress(cfg.Apps[0], "fd00::1"); err != nil || got != "[fd00::1]:50051" {
		t.Errorf("advertised: %q, %v", got, err)
	}
}

func TestFlyIsForced(t *testing.T) {
	off := mustLoad(t, "", flyEnv("FLYPROXY_REGISTRATION_IS_FLY=false")...)
	if off.Fly.OnFly || off.Admin.Listen != "127.0.0.1:9052" || off.AddressForm() != "{host}:{port}" || off.Service != "shop" {
		t.Errorf("forced off: %+v", off)
	}
	on := mustLoad(t, "registration: {is_fly: true}", good("FLY_PRIVATE_IP=fdaa::3")...)
	if !on.Fly.OnFly || on.Admin.Listen != "[::]:9052" || on.AddressForm() != "private-ip" {
		t.Errorf("forced on: %+v", on)
	}
}

// A later layer wins, and each value knows which one it came from.
func TestLayers(t *testing.T) {
	cfg := mustLoad(t, "# first\nlisten:\n  - localhost:1\nregion: file\ndrain: {timeout: 1s}\nregistry: {allowed_networks: []}\n",
		flyEnv("FLYPROXY_DRAIN_TIMEOUT=2m", "FLYPROXY_LISTEN=127.0.0.1:2, [::1]:3", "FLYPROXY_LOG_LEVEL=")...)
	if got := cfg.Listen; !reflect.DeepEqual(got, []string{"127.0.0.1:2", "[::1]:3"}) || cfg.Source("listen") != "FLYPROXY_LISTEN" {
		t.Errorf("listen: %q from %q", got, cfg.Source("listen"))
	}
	if cfg.Region != "file" || cfg.Source("region") != "flyproxy.yaml:4" {
		t.Errorf("region: %q from %q", cfg.Region, cfg.Source("region"))
	}
	if cfg.Drain.Timeout != 2*time.Minute || cfg.Source("drain.timeout") != "FLYPROXY_DRAIN_TIMEOUT" {
		t.Errorf("drain: %v from %q", cfg.Drain.Timeout, cfg.Source("drain.timeout"))
	}
	if got := cfg.Registry.Networks(); len(got) != 0 {
		t.Errorf("an empty list in the file does not empty the list: %v", got)
	}
	if cfg.Log.Level != "info" {
		t.Errorf("an empty variable sets the log level %q", cfg.Log.Level)
	}
}

// Every key takes its variable: each is set to its own default in the environment's form, or to an example.
func TestEveryVariable(t *testing.T) {
	examples := map[string]string{
		"service": "s", "instance_id": "i", "region": "r", "apps": "[{name: a}]", "registration.process_group": "g",
		"registration.app_version": "v", "registration.labels": `[{"name":"a.b","value":"C"}]`,
		"registry.allowed_networks": "10.0.0.0/8,fdaa::/16", "registry.signing_key": "k", "registry.redis.url": "redis://h",
		"registry.redis.addresses": "a:1", "registry.redis.host": "h", "registry.redis.username": "u", "registry.redis.password": "p",
		"registry.redis.ca_file": "f", "registry.redis.server_name": "n", "registry.redis.sentinel.master": "m",
		"registry.redis.sentinel.username": "u", "registry.redis.sentinel.password": "p",
		"retry.methods": "/a.B/C,/a.B/*", "upstream.tls.ca_file": "f", "upstream.tls.cert_file": "f", "upstream.tls.key_file": "f",
		"upstream.tls.server_name": "n", "downstream.allowed_networks": "fdaa::/16,10.0.0.0/8", "downstream.tls.cert_file": "f",
		"downstream.tls.key_file": "f", "downstream.tls.client_ca_file": "f", "admin.socket": "unix:///a",
		"registry.static": `[{service: s, address: "a:1"}]`, "routing.routes": "[{prefix: /a/, service: s}]",
	}
	for _, k := range config.Keys() {
		if k.Env == "" {
			continue
		}
		value := k.Default
		if value == "" {
			value = examples[k.Path]
		}
		if value == "" {
			t.Errorf("%s has neither a default nor an example here", k.Path)
			continue
		}
		cfg, err := load("", "REDIS_HOST=base.example", "FLY_APP_NAME=s", k.Env+"="+value)
		if err != nil && k.Path != "registry.redis.sentinel.master" {
			t.Errorf("%s=%s: %v", k.Env, value, err)
			continue
		}
		if source := cfg.Source(k.Path); source != k.Env && source != k.Env+" (auto)" {
			t.Errorf("%s=%s: from %q", k.Env, value, source)
		}
	}
}

// viper lower-cases the keys of maps and splits them at dots. What a user names must come through as it was written.
func TestNamesSurvive(t *testing.T) {
	cfg := mustLoad(t, `
routing:
  routes:
    - {prefix: /pkg.Svc/, service: Shop.API}
registration:
  labels:
    - {name: Example.com/a.b, value: C.D}
apps:
  - {name: App.One, grpc_services: [pkg.v1.Svc]}
`, good()...)
	if got := cfg.Routing.Routes; !reflect.DeepEqual(got, []config.Route{{Prefix: "/pkg.Svc/", Service: "Shop.API"}}) {
		t.Errorf("routes: %+v", got)
	}
	if got := cfg.Registration.Labels; !reflect.DeepEqual(got, []config.Label{{Name: "Example.com/a.b", Value: "C.D"}}) {
		t.Errorf("labels: %+v", got)
	}
	if got := cfg.Apps[0]; got.Name != "App.One" || !reflect.DeepEqual(got.GRPCServices, []string{"pkg.v1.Svc"}) {
		t.Errorf("app: %+v", got)
	}
}

func TestPolicyAliases(t *testing.T) {
	for said, want := range map[string]string{
		"RoundRobinStrategy": "round_robin", "LeastConnectionsStrategy": "least_connections", "WeightedLoadStrategy": "weighted_load",
		"round_robin": "round_robin",
	} {
		if got := mustLoad(t, "routing: {policy: "+said+"}", good()...).Routing.Policy; got != want {
			t.Errorf("%s is %s, want %s", said, got, want)
		}
	}
}

// GRPC_PORT and GRPC_BIND_ADDRESS describe the app; the sidecar's own listener stays where it is.
func TestSharedNamesDescribeTheApp(t *testing.T) {
	for _, tt := range []struct {
		name, file    string
		env           []string
		want, source  string
		warning       string
		twoApps, lost bool
	}{
		{name: "nothing said", want: "127.0.0.1:50051", source: "default"},
		{name: "a port", env: []string{"GRPC_PORT=6000"}, want: "127.0.0.1:6000", source: "GRPC_PORT"},
		{name: "every IPv4", env: []string{"GRPC_BIND_ADDRESS=0.0.0.0"}, want: "127.0.0.1:50051", source: "GRPC_BIND_ADDRESS"},
		{name: "everything", env: []string{"GRPC_BIND_ADDRESS=::"}, want: "[::1]:50051", source: "GRPC_BIND_ADDRESS"},
		{name: "in brackets", env: []string{"GRPC_BIND_ADDRESS=[::]"}, want: "[::1]:50051", source: "GRPC_BIND_ADDRESS"},
		{name: "one address", env: []string{"GRPC_BIND_ADDRESS=10.0.0.7"}, want: "10.0.0.7:50051", source: "GRPC_BIND_ADDRESS"},
		{
			name: "both", env: []string{"GRPC_BIND_ADDRESS=localhost", "GRPC_PORT=7"}, want: "localhost:7",
			source: "GRPC_BIND_ADDRESS, GRPC_PORT",
		},
		{
			name: "an app without an address", file: "apps: [{name: a}]", env: []string{"GRPC_PORT=6000"}, want: "127.0.0.1:6000",
			source: "GRPC_PORT",
		},
		{
			name: "they beat the file, each its part", file: "apps: [{address: '10.0.0.7:1'}]", env: []string{"GRPC_PORT=6000"},
			want: "10.0.0.7:6000", source: "GRPC_PORT",
			warning: "flyproxy.yaml:1: apps[0].address: 10.0.0.7:1 is not used: GRPC_PORT says 10.0.0.7:6000",
		},
		{
			name: "they agree with the file", file: "apps: [{address: '127.0.0.1:6000'}]", env: []string{"GRPC_PORT=6000"},
			want: "127.0.0.1:6000", source: "flyproxy.yaml:1",
		},
		{
			name: "they lose to FLYPROXY_APPS", env: []string{"GRPC_PORT=6000", `FLYPROXY_APPS=[{"address":"127.0.0.1:7"}]`},
			want: "127.0.0.1:7", source: "FLYPROXY_APPS",
		},
		{name: "an app bound to everything", file: "apps: [{address: '[::]:7'}]", want: "[::1]:7", source: "flyproxy.yaml:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := mustLoad(t, tt.file, good(tt.env...)...)
			if got := cfg.Apps[0].Address; got != tt.want || cfg.Source("apps[0].address") != tt.source {
				t.Errorf("%q from %q, want %q from %q", got, cfg.Source("apps[0].address"), tt.want, tt.source)
			}
			if !reflect.DeepEqual(cfg.Listen, []string{"localhost:50052"}) {
				t.Errorf("our listener moved to %q", cfg.Listen)
			}
			var warnings, want []string
			for _, w := range cfg.Warnings {
				warnings = append(warnings, w.String())
			}
			if tt.warning != "" {
				want = []string{tt.warning}
			}
			wantLines(t, warnings, want)
		})
	}
}

// An app that is told by FLYPROXY_ADDR where its sidecar is may share the sidecar's environment, as a Machine's programs do.
func TestTheAppsOwnVariable(t *testing.T) {
	cfg := mustLoad(t, "", good("FLYPROXY_ADDR=localhost:50152")...)
	if got := cfg.Listen; len(got) != 1 || strings.Contains(fmt.Sprint(got), "50152") {
		t.Errorf("listen is %v: FLYPROXY_ADDR is not for the sidecar", got)
	}
	wantLines(t, faults(t, "", good("FLYPROXY_ADR=localhost:50152")...),
		[]string{"FLYPROXY_ADR: unknown environment variable; did you mean FLYPROXY_ADDR?"})
}

func TestSeveralApps(t *testing.T) {
	cfg := mustLoad(t, `
registration: {weight: 7}
apps:
  - {name: a, address: "127.0.0.1:1"}
  - {name: b, address: "127.0.0.1:2", weight: 9}
  - {name: c, address: "127.0.0.1:3", service: other, health: {mode: tcp, fall: 1}}
`, good("FLYPROXY_INSTANCE_ID=i", "GRPC_PORT=6000")...)
	var ids []string
	for _, app := range cfg.Apps {
		ids = append(ids, app.Service+" "+cfg.ID(app)+" "+app.Address)
	}
	wantLines(t, ids, []string{"greeter i/a 127.0.0.1:1", "greeter i/b 127.0.0.1:2", "other i 127.0.0.1:3"})
	if cfg.Apps[0].Weight != 7 || cfg.Apps[1].Weight != 9 {
		t.Errorf("weights %d and %d", cfg.Apps[0].Weight, cfg.Apps[1].Weight)
	}
	want := config.Health{Mode: "tcp", Interval: 2 * time.Second, Timeout: time.Second, Rise: 1, Fall: 1}
	if got := cfg.Apps[2].Health; got != want {
		t.Errorf("health: %+v", got)
	}
}

func TestAddressForms(t *testing.T) {
	for form, want := range map[string]string{
		"auto": "[fdaa:0:1::2]:50051", "private-ip": "[fdaa:0:1::2]:50051", "machine-dns": "148e.vm.shop.internal:50051",
		"{instance_id}.internal:{port}": "148e.internal:50051", "app.example:7": "app.example:7",
	} {
		cfg := mustLoad(t, "", flyEnv("FLYPROXY_REGISTRATION_ADDRESS="+form)...)
		if got, err := cfg.AdvertisedAddress(cfg.Apps[0], "10.0.0.1"); err != nil || got != want {
			t.Errorf("%s: %q, %v", form, got, err)
		}
	}
}

func TestRegistrationOff(t *testing.T) {
	cfg := mustLoad(t, "registration: {enabled: false}\napps: []\n", "REDIS_HOST=r")
	if cfg.Registration.Enabled || len(cfg.Apps) != 0 || cfg.Service != "" {
		t.Errorf("%+v", cfg)
	}
}

func TestStoreIsChosen(t *testing.T) {
	const static = "registry: {static: [{service: s, address: 'h.example:1'}]}\n"
	for _, tt := range []struct{ file, env, want string }{
		{static, "", config.StoreStatic},
		{static, "REDIS_HOST=r", config.StoreRedis},
		{static, "FLYPROXY_REGISTRY_STORE=static", config.StoreStatic},
		{"", "FLYPROXY_REGISTRY_STORE=embedded", config.StoreEmbedded},
		{"", "FLYPROXY_REGISTRY_REDIS_ADDRESSES=a:1", config.StoreRedis},
	} {
		cfg := mustLoad(t, tt.file, "FLYPROXY_SERVICE=s", tt.env)
		if cfg.Registry.Store != tt.want {
			t.Errorf("%+v: %s", tt, cfg.Registry.Store)
		}
	}
	want := []config.Static{{Service: "s", ID: "h.example:1", Address: "h.example:1", Weight: 100}}
	if got := mustLoad(t, static, "FLYPROXY_SERVICE=s").Registry.Static; !reflect.DeepEqual(got, want) {
		t.Errorf("static: %+v", got)
	}
}

func TestSizes(t *testing.T) {
	for said, want := range map[string]config.Size{"65536": 65536, "64KiB": 65536, "2 MiB": 2 << 20, "1MiB": 1 << 20} {
		if got := mustLoad(t, "limits: {max_header_bytes: "+said+"}", good()...).Limits.MaxHeaderBytes; got != want {
			t.Errorf("%s is %d", said, got)
		}
	}
	if s := config.Size(65536).String() + " " + config.Size(1000).String() + " " + config.Size(0).String(); s != "64KiB 1000 0" {
		t.Errorf("sizes are written %s", s)
	}
}

package config_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

func TestGatewayDefaults(t *testing.T) {
	for name, env := range map[string][]string{
		"on Fly":    flyEnv("FLYPROXY_MODE=gateway", "REDIS_HOST=redis.example", "GRPC_PORT=6000", "GRPC_BIND_ADDRESS=::"),
		"elsewhere": {"FLYPROXY_MODE=gateway", "REDIS_HOST=redis.example"}, // no service either
	} {
		t.Run(name, func(t *testing.T) {
			cfg := mustLoad(t, "", env...)
			wantLines(t, warnings(cfg), nil)
			if cfg.Mode != config.ModeGateway || cfg.Registers() || len(cfg.Apps) != 0 {
				t.Errorf("mode %q, registers %v, apps %v", cfg.Mode, cfg.Registers(), cfg.Apps)
			}
			if !reflect.DeepEqual(cfg.Listen, []string{"fly-local-6pn:50052"}) || cfg.Source("listen") != "default of a gateway" {
				t.Errorf("listen %q from %q", cfg.Listen, cfg.Source("listen"))
			}
			if fallback, ok := cfg.ListenFallback(); !ok || fallback != "[::]:50052" {
				t.Errorf("else %q, %v", fallback, ok)
			}
			want := []netip.Prefix{
				netip.MustParsePrefix("fdaa::/16"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
			}
			if got := cfg.Downstream.Networks(); !reflect.DeepEqual(got, want) {
				t.Errorf("clients from %v", got)
			}
		})
	}
	if cfg := mustLoad(t, "", flyEnv("FLYPROXY_MODE=gateway", "REDIS_HOST=r")...); cfg.Service != "shop" ||
		cfg.Admin.Listen != "[::]:9052" || cfg.Admin.Socket != "" {
		t.Errorf("service %q, admin %q, %q", cfg.Service, cfg.Admin.Listen, cfg.Admin.Socket)
	}
}

// The flag beats file and environment, in both directions.
func TestModeOfTheCommandLine(t *testing.T) {
	for said, other := range map[string]string{"gateway": "sidecar", "sidecar": "gateway"} {
		cfg, err := config.Load(config.Options{
			Mode: said, Environ: good("FLYPROXY_MODE=" + other),
			ReadFile: func(string) ([]byte, error) { return nil, fs.ErrNotExist },
		})
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Mode != said || cfg.Source("mode") != "--mode" {
			t.Errorf("%q from %q, want %s", cfg.Mode, cfg.Source("mode"), said)
		}
	}
}

func TestGatewayListens(t *testing.T) {
	cfg := mustLoad(t, "", good("FLYPROXY_MODE=gateway", "FLYPROXY_LISTEN=[::]:7,fly-local-6pn:8,unix:///run/g.sock")...)
	wantLines(t, warnings(cfg), nil)
	if _, ok := cfg.ListenFallback(); ok {
		t.Error("what was said would be replaced")
	}
	near := mustLoad(t, "", good("FLYPROXY_MODE=gateway", "FLYPROXY_LISTEN=localhost:7,unix:///run/g.sock")...)
	wantLines(t, warnings(near), []string{"FLYPROXY_LISTEN: listen: a gateway on loopback and unix sockets: no other Machine reaches it; " +
		"fly-local-6pn:50052 would do"})
	if _, ok := mustLoad(t, "", good()...).ListenFallback(); ok {
		t.Error("a sidecar has another address to listen on")
	}
}

// What is said for the sidecars of the same [env] is no fault of the gateway.
func TestGatewayHasNoApps(t *testing.T) {
	cfg := mustLoad(t, "mode: gateway\napps: [{address: '127.0.0.1:50052'}]\n", "REDIS_HOST=r")
	wantLines(t, warnings(cfg), []string{"flyproxy.yaml:2: apps: not registered: this is a gateway (mode), which has no apps; " +
		"they belong to a sidecar in their own Machine"})
	if len(cfg.Apps) != 0 {
		t.Errorf("apps %v", cfg.Apps)
	}
}

func TestIPv4MappedNetworks(t *testing.T) {
	cfg := mustLoad(t, "", good("FLYPROXY_MODE=gateway", "FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS=::ffff:10.1.2.3/104,fdaa::7/16",
		"FLYPROXY_REGISTRY_ALLOWED_NETWORKS=::ffff:192.0.2.0/120")...)
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fdaa::/16")}
	if got := cfg.Downstream.Networks(); !reflect.DeepEqual(got, want) {
		t.Errorf("clients from %v", got)
	}
	if got := cfg.Registry.Networks(); len(got) != 1 || got[0] != netip.MustParsePrefix("192.0.2.0/24") {
		t.Errorf("records from %v", got)
	}
}

func TestDownstream(t *testing.T) {
	authority := tlstest.NewAuthority(t, "ours")
	cert, key := authority.Issue("gateway")
	_, otherKey := authority.Issue("another")
	disk := map[string][]byte{
		"ca.pem": authority.PEM(), "tls.crt": cert, "tls.key": key, "other.key": otherKey, "prose": []byte("no PEM"),
	}
	const mode, on = "FLYPROXY_MODE=gateway", "FLYPROXY_DOWNSTREAM_TLS_ENABLED=true"
	pair := []string{mode, on, "FLYPROXY_DOWNSTREAM_TLS_CERT_FILE=tls.crt", "FLYPROXY_DOWNSTREAM_TLS_KEY_FILE=tls.key"}
	const aSidecar = "not used: a sidecar listens on loopback and unix sockets only; this is for mode: gateway"
	for _, tt := range []struct {
		name           string
		env            []string
		want, warnings []string
	}{
		{name: "TLS", env: pair},
		{name: "mutual TLS", env: append(pair, "FLYPROXY_DOWNSTREAM_TLS_CLIENT_CA_FILE=ca.pem")},
		{
			name: "TLS without files", env: []string{mode, on},
			want: []string{"default: downstream.tls.cert_file: missing: who takes TLS must show clients a certificate; " +
				"set it to the file with the gateway's certificate, and key_file to the one with its private key"},
		},
		{
			name: "a certificate without its key", env: pair[:3],
			want: []string{"default: downstream.tls.key_file: missing: cert_file is set, and a certificate is of no use without its private key; " +
				"set it to the file with the private key, or remove cert_file"},
		},
		{
			name: "another's key", env: append(pair, "FLYPROXY_DOWNSTREAM_TLS_KEY_FILE=other.key"),
			want: []string{`FLYPROXY_DOWNSTREAM_TLS_KEY_FILE: downstream.tls.key_file = "other.key": not the private key of the certificate ` +
				"in tls.crt; name the key that the certificate was made for; where the file has several certificates, ours comes first"},
		},
		{
			name: "no such file, and no authority", env: append(pair, "FLYPROXY_DOWNSTREAM_TLS_CERT_FILE=gone", "FLYPROXY_DOWNSTREAM_TLS_CLIENT_CA_FILE=prose"),
			want: []string{
				`FLYPROXY_DOWNSTREAM_TLS_CLIENT_CA_FILE: downstream.tls.client_ca_file = "prose": no certificate in PEM ` +
					"(-----BEGIN CERTIFICATE-----); name a file with the certificates of the authorities in PEM",
				`FLYPROXY_DOWNSTREAM_TLS_CERT_FILE: downstream.tls.cert_file = "gone": cannot read the file: file does not exist; ` +
					"name a file that is there and that flyproxy may read",
			},
		},
		{
			name: "files without TLS", env: []string{mode, pair[2], "FLYPROXY_DOWNSTREAM_TLS_CLIENT_CA_FILE=gone"},
			warnings: []string{
				"FLYPROXY_DOWNSTREAM_TLS_CERT_FILE: downstream.tls.cert_file: not used: TLS is off (downstream.tls.enabled)",
				"FLYPROXY_DOWNSTREAM_TLS_CLIENT_CA_FILE: downstream.tls.client_ca_file: not used: TLS is off (downstream.tls.enabled)",
			},
		},
		{
			name: "a sidecar", env: []string{on, "FLYPROXY_DOWNSTREAM_TLS_CERT_FILE=gone", "FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS=10.0.0.0/8"},
			warnings: []string{
				"FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS: downstream.allowed_networks: " + aSidecar,
				"FLYPROXY_DOWNSTREAM_TLS_ENABLED: downstream.tls.enabled: " + aSidecar,
				"FLYPROXY_DOWNSTREAM_TLS_CERT_FILE: downstream.tls.cert_file: " + aSidecar,
			},
		},
		{
			name: "TLS on a unix socket", env: append(pair, "FLYPROXY_LISTEN=unix:///g.sock"),
			warnings: []string{
				"FLYPROXY_LISTEN: listen: a gateway on loopback and unix sockets: no other Machine reaches it; fly-local-6pn:50052 would do",
				"FLYPROXY_DOWNSTREAM_TLS_ENABLED: downstream.tls.enabled: not used: listen has unix sockets only, which take plain text from " +
					"whom their files' permissions let in",
			},
		},
		{
			name: "networks that are none", env: []string{mode, "FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS=fdaa::1,everybody"},
			want: []string{
				`FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS: downstream.allowed_networks = "fdaa::1": not a network; ` +
					"write an address, a slash and the length of the prefix, such as fdaa::/16",
				`FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS: downstream.allowed_networks = "everybody": not a network; ` +
					"write an address, a slash and the length of the prefix, such as fdaa::/16",
			},
		},
		{
			name: "everybody", env: []string{mode, "FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS=::/0"},
			warnings: []string{"FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS: downstream.allowed_networks: ::/0: whoever reaches this port may call " +
				"every service; with downstream.tls.client_ca_file only those may that have a certificate"},
		},
		{name: "everybody with a certificate", env: append(pair, "FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS=::/0", "FLYPROXY_DOWNSTREAM_TLS_CLIENT_CA_FILE=ca.pem")},
		{name: "handshakes with the other engine", env: append(pair, "FLYPROXY_ENGINE=grpc", "FLYPROXY_LIMITS_HANDSHAKE_TIMEOUT=1s")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := config.Load(config.Options{Environ: good(tt.env...), ReadFile: func(name string) ([]byte, error) {
				if text, ok := disk[name]; ok {
					return text, nil
				}
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
			}})
			var got, warns []string
			var faulty *config.Error
			switch {
			case errors.As(err, &faulty):
				for _, f := range faulty.Faults {
					got = append(got, f.String())
				}
			case err != nil:
				t.Fatal(err)
			default:
				warns = warnings(cfg)
			}
			wantLines(t, got, tt.want)
			wantLines(t, warns, tt.warnings)
		})
	}
	if got := faults(t, "mode: gateway\ndownstream: {allowed_networks: []}\n", good()...); len(got) != 1 ||
		!strings.HasPrefix(got[0], "flyproxy.yaml:2: downstream.allowed_networks: no network: nobody could connect") {
		t.Errorf("an empty list: %q", got)
	}
}

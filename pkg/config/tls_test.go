package config_test

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

func TestUpstreamTLS(t *testing.T) {
	authority := tlstest.NewAuthority(t, "ours")
	cert, key := authority.Issue("us")
	_, otherKey := authority.Issue("another")
	oldCert, oldKey := authority.IssueUntil(time.Date(2020, 2, 3, 0, 0, 0, 0, time.UTC), "us")
	disk := map[string][]byte{
		"ca.pem": authority.PEM(), "tls.crt": cert, "tls.key": key, "other.key": otherKey, "old.crt": oldCert, "old.key": oldKey,
		"prose": []byte("no PEM"), "broken.crt": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"secret.key": []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
	}
	for _, tt := range []struct {
		name     string
		set      []string // what follows FLYPROXY_UPSTREAM_TLS_
		env      []string
		want     []string
		warnings []string
	}{
		{name: "a CA alone", set: []string{"CA_FILE=ca.pem"}},
		{name: "the system's authorities"},
		{name: "mutual", set: []string{"CA_FILE=ca.pem", "CERT_FILE=tls.crt", "KEY_FILE=tls.key", "SERVER_NAME=peers.internal"}},
		{name: "a server name that is an address", set: []string{"SERVER_NAME=fdaa::1"}},
		{
			name: "a CA file that is not there", set: []string{"CA_FILE=nowhere.pem"},
			want: []string{`FLYPROXY_UPSTREAM_TLS_CA_FILE: upstream.tls.ca_file = "nowhere.pem": cannot read the file: file does not exist; ` +
				"name a file that is there and that flyproxy may read"},
		},
		{
			name: "files that may not be read", set: []string{"CERT_FILE=closed", "KEY_FILE=closed"},
			want: []string{
				`FLYPROXY_UPSTREAM_TLS_CERT_FILE: upstream.tls.cert_file = "closed": cannot read the file: permission denied; ` +
					"name a file that is there and that flyproxy may read",
				`FLYPROXY_UPSTREAM_TLS_KEY_FILE: upstream.tls.key_file = "closed": cannot read the file: permission denied; ` +
					"name a file that is there and that flyproxy may read",
			},
		},
		{
			name: "a CA file without PEM", set: []string{"CA_FILE=prose"},
			want: []string{`FLYPROXY_UPSTREAM_TLS_CA_FILE: upstream.tls.ca_file = "prose": no certificate in PEM (-----BEGIN CERTIFICATE-----); ` +
				"name a file with the certificates of the authorities in PEM"},
		},
		{
			name: "a key in place of a CA", set: []string{"CA_FILE=tls.key"},
			want: []string{`FLYPROXY_UPSTREAM_TLS_CA_FILE: upstream.tls.ca_file = "tls.key": no certificate in PEM (-----BEGIN CERTIFICATE-----); ` +
				"name a file with the certificates of the authorities in PEM"},
		},
		{
			name: "a CA that cannot be read", set: []string{"CA_FILE=broken.crt"},
			want: []string{`FLYPROXY_UPSTREAM_TLS_CA_FILE: upstream.tls.ca_file = "broken.crt": broken certificate: number 1: x509: malformed certificate; ` +
				"name a file with the certificates of the authorities in PEM"},
		},
		{
			name: "a certificate without a key", set: []string{"CERT_FILE=tls.crt"},
			want: []string{"default: upstream.tls.key_file: missing: cert_file is set, and a certificate is of no use without its private key; " +
				"set it to the file with the private key, or remove cert_file"},
		},
		{
			name: "a key without a certificate", set: []string{"KEY_FILE=tls.key"},
			want: []string{"default: upstream.tls.cert_file: missing: key_file is set, and a private key is of no use without its certificate; " +
				"set it to the file with the certificate, or remove key_file"},
		},
		{
			name: "a key of another certificate", set: []string{"CERT_FILE=tls.crt", "KEY_FILE=other.key"},
			want: []string{`FLYPROXY_UPSTREAM_TLS_KEY_FILE: upstream.tls.key_file = "other.key": not the private key of the certificate in tls.crt; ` +
				"name the key that the certificate was made for; where the file has several certificates, ours comes first"},
		},
		{
			name: "the two exchanged", set: []string{"CERT_FILE=tls.key", "KEY_FILE=tls.crt"},
			want: []string{`FLYPROXY_UPSTREAM_TLS_CERT_FILE: upstream.tls.cert_file = "tls.key": no certificate in PEM (-----BEGIN CERTIFICATE-----); ` +
				"name a file with our certificate in PEM"},
		},
		{
			name: "no key in PEM", set: []string{"CERT_FILE=tls.crt", "KEY_FILE=prose"},
			want: []string{`FLYPROXY_UPSTREAM_TLS_KEY_FILE: upstream.tls.key_file = "prose": no private key in PEM (-----BEGIN PRIVATE KEY-----); ` +
				"name a file with the certificate's private key in PEM"},
		},
		{
			name: "a key with a passphrase", set: []string{"CERT_FILE=tls.crt", "KEY_FILE=secret.key"},
			want: []string{`FLYPROXY_UPSTREAM_TLS_KEY_FILE: upstream.tls.key_file = "secret.key": a private key with a passphrase, which nobody can type in here; ` +
				"name a file with the key in the clear, readable by flyproxy only"},
		},
		{
			name: "a server name with a port", set: []string{"SERVER_NAME=peers.internal:443"},
			want: []string{`FLYPROXY_UPSTREAM_TLS_SERVER_NAME: upstream.tls.server_name = "peers.internal:443": "peers.internal:443" is not a host; ` +
				"write the host name in the peers' certificates, without a port"},
		},
		{
			name: "a certificate that has run out", set: []string{"CERT_FILE=old.crt", "KEY_FILE=old.key"},
			warnings: []string{"FLYPROXY_UPSTREAM_TLS_CERT_FILE: upstream.tls.cert_file: the certificate in old.crt ran out on 2020-02-03: " +
				"peers will refuse it until the file has a new one"},
		},
		{
			name: "off", set: []string{"ENABLED=false", "CA_FILE=nowhere.pem", "SERVER_NAME=n"},
			warnings: []string{
				"FLYPROXY_UPSTREAM_TLS_CA_FILE: upstream.tls.ca_file: not used: TLS is off (upstream.tls.enabled)",
				"FLYPROXY_UPSTREAM_TLS_SERVER_NAME: upstream.tls.server_name: not used: TLS is off (upstream.tls.enabled)",
			},
		},
		{
			name: "health checks in plain text", env: []string{"FLYPROXY_APPS=[{name: a}]"},
			warnings: []string{"default: apps[0].health.mode: auto asks the app in plain text, and upstream.tls.enabled says that apps take TLS: " +
				"one that takes nothing else is never healthy for it; tcp fits"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := append(good(), "FLYPROXY_UPSTREAM_TLS_ENABLED=true", "FLYPROXY_APPS=[{health: {mode: tcp}}]")
			for _, s := range tt.set {
				env = append(env, "FLYPROXY_UPSTREAM_TLS_"+s)
			}
			cfg, err := config.Load(config.Options{Environ: append(env, tt.env...), ReadFile: func(name string) ([]byte, error) {
				switch text, ok := disk[name]; {
				case ok:
					return text, nil
				case name == "closed":
					return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
				}
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
			}})
			var got, warnings []string
			var faulty *config.Error
			switch {
			case errors.As(err, &faulty):
				for _, f := range faulty.Faults {
					got = append(got, f.String())
				}
			case err != nil:
				t.Fatal(err)
			default:
				for _, w := range cfg.Warnings {
					warnings = append(warnings, w.String())
				}
			}
			wantLines(t, got, tt.want)
			wantLines(t, warnings, tt.warnings)
		})
	}
}

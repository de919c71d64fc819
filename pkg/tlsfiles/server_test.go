package tlsfiles_test

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

func (f files) server(t *testing.T, mutual bool) (*tlsfiles.Server, *logs) {
	t.Helper()
	log := &logs{}
	cfg := tlsfiles.ServerConfig{CertFile: f.cert, KeyFile: f.key, Logger: slog.New(slog.NewTextHandler(log, nil))}
	if mutual {
		cfg.ClientCAFile = f.ca
	}
	s, err := tlsfiles.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

func TestServerConfiguration(t *testing.T) {
	a, f := tlstest.NewAuthority(t, "ours"), newFiles(t)
	cert, key := a.Issue("gateway")
	tlstest.Write(t, f.ca, a.PEM())
	tlstest.Write(t, f.cert, cert)
	tlstest.Write(t, f.key, key)
	s, _ := f.server(t, false)
	cfg := s.TLS()
	if cfg.MinVersion != tls.VersionTLS12 || cfg.ClientAuth != tls.NoClientCert || cfg.ClientCAs != nil || !cfg.SessionTicketsDisabled ||
		len(cfg.Certificates) != 1 || cfg.Certificates[0].Leaf.Subject.CommonName != "gateway" {
		t.Errorf("%+v", cfg)
	}
	for _, suite := range cfg.CipherSuites { // RFC 9113, appendix A, has all that are no AEAD, and all without an ephemeral key
		if name := tls.CipherSuiteName(suite); !strings.HasPrefix(name, "TLS_ECDHE_") || strings.Contains(name, "_CBC_") {
			t.Errorf("%s is prohibited", name)
		}
	}
	s, _ = f.server(t, true)
	if cfg := s.TLS(); cfg.ClientAuth != tls.RequireAndVerifyClientCert || !cfg.ClientCAs.Equal(a.Pool()) {
		t.Errorf("mutual: %+v", cfg)
	}
}

func TestNewServerFaults(t *testing.T) {
	a, f := tlstest.NewAuthority(t, "ours"), newFiles(t)
	cert, key := a.Issue("gateway")
	tlstest.Write(t, f.cert, cert)
	tlstest.Write(t, f.key, key)
	for name, tc := range map[string]struct {
		cfg  tlsfiles.ServerConfig
		want error
	}{
		"nothing":              {tlsfiles.ServerConfig{}, tlsfiles.ErrHalfPair},
		"half a pair":          {tlsfiles.ServerConfig{CertFile: f.cert}, tlsfiles.ErrHalfPair},
		"no such authority":    {tlsfiles.ServerConfig{CertFile: f.cert, KeyFile: f.key, ClientCAFile: f.ca}, fs.ErrNotExist},
		"a key for authority":  {tlsfiles.ServerConfig{CertFile: f.cert, KeyFile: f.key, ClientCAFile: f.key}, tlsfiles.ErrNoCertificate},
		"the pair is reversed": {tlsfiles.ServerConfig{CertFile: f.key, KeyFile: f.cert}, tlsfiles.ErrNoCertificate},
	} {
		if _, err := tlsfiles.NewServer(tc.cfg); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestServerTrouble(t *testing.T) {
	a, f := tlstest.NewAuthority(t, "ours"), newFiles(t)
	cert, key := a.Issue("gateway")
	tlstest.Write(t, f.cert, cert)
	tlstest.Write(t, f.key, key)
	s, log := f.server(t, false)
	if got := s.Trouble(); got != "" {
		t.Errorf("at first: %s", got)
	}
	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := s.Trouble(); !strings.Contains(got, f.key) {
			t.Errorf("without a key: %q", got)
		}
	}
	if n := log.count("cannot be used"); n != 1 {
		t.Errorf("%d lines about one fault", n)
	}
	if pair := s.TLS().Certificates[0]; pair.Leaf.Subject.CommonName != "gateway" {
		t.Errorf("in force is %s", pair.Leaf.Subject)
	}
	old, oldKey := a.IssueUntil(time.Date(2020, 2, 3, 0, 0, 0, 0, time.UTC), "gateway")
	tlstest.Write(t, f.cert, old)
	tlstest.Write(t, f.key, oldKey)
	if got := s.Trouble(); !strings.Contains(got, f.cert+" ran out on 2020-02-03") {
		t.Errorf("with an old certificate: %q", got)
	}
	tlstest.Write(t, f.cert, cert)
	tlstest.Write(t, f.key, key)
	if got := s.Trouble(); got != "" {
		t.Errorf("all is well again: %s", got)
	}
}

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
)

const tlsKeys = "upstream.tls."

// checkTLS reads the files that upstream.tls names, so that what is wrong with them is said before the first call finds out.
func (l *loader) checkTLS(cfg *Config) {
	t := &cfg.Upstream.TLS
	if !t.Enabled {
		l.warnTLSIsOff(t)
		return
	}
	if t.ServerName != "" {
		if _, err := netip.ParseAddr(t.ServerName); err != nil {
			if wrong := checkHost(t.ServerName); wrong != nil {
				l.faultAt(tlsKeys+"server_name", t.ServerName, wrong.problem, "write the host name in the peers' certificates, without a port")
			}
		}
	}
	if text, ok := l.readNamed("ca_file", t.CAFile); ok {
		if _, err := tlsfiles.Authorities(text); err != nil {
			l.faultAt(tlsKeys+"ca_file", t.CAFile, err.Error(), "name a file with the certificates of the authorities in PEM")
		}
	}
	l.checkPair(t)
	l.warnHealthIsPlain(cfg)
}

// warnHealthIsPlain: who speaks TLS to peers most likely has an app that takes nothing else, and its health checks would fail.
func (l *loader) warnHealthIsPlain(cfg *Config) {
	if !cfg.Registration.Enabled {
		return
	}
	for i, app := range cfg.Apps {
		switch app.Health.Mode {
		case "auto", "watch", "check":
			l.warn(fmt.Sprintf("apps[%d].health.mode", i), "%s asks the app in plain text, and upstream.tls.enabled says that apps take TLS: "+
				"one that takes nothing else is never healthy for it; tcp fits", app.Health.Mode)
		}
	}
}

func (l *loader) warnTLSIsOff(t *UpstreamTLS) {
	for _, k := range []struct{ name, value string }{
		{"ca_file", t.CAFile}, {"cert_file", t.CertFile}, {"key_file", t.KeyFile}, {"server_name", t.ServerName},
	} {
		if k.value != "" {
			l.warn(tlsKeys+k.name, "not used: TLS is off (upstream.tls.enabled)")
		}
	}
}

func (l *loader) checkPair(t *UpstreamTLS) {
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		l.faultAt(tlsKeys+"key_file", "", "missing: cert_file is set, and a certificate is of no use without its private key",
			"set it to the file with the private key, or remove cert_file")
	case t.CertFile == "" && t.KeyFile != "":
		l.faultAt(tlsKeys+"cert_file", "", "missing: key_file is set, and a private key is of no use without its certificate",
			"set it to the file with the certificate, or remove key_file")
	}
	cert, haveCert := l.readNamed("cert_file", t.CertFile)
	key, haveKey := l.readNamed("key_file", t.KeyFile)
	if !haveCert || !haveKey {
		return
	}
	pair, err := tlsfiles.Pair(cert, key)
	switch {
	case errors.Is(err, tlsfiles.ErrMismatch):
		l.faultAt(tlsKeys+"key_file", t.KeyFile, "not the private key of the certificate in "+t.CertFile,
			"name the key that the certificate was made for; where the file has several certificates, ours comes first")
	case errors.Is(err, tlsfiles.ErrEncryptedKey):
		l.faultAt(tlsKeys+"key_file", t.KeyFile, "a private key with a passphrase, which nobody can type in here",
			"name a file with the key in the clear, readable by flyproxy only")
	case tlsfiles.OfKey(err):
		l.faultAt(tlsKeys+"key_file", t.KeyFile, err.Error(), "name a file with the certificate's private key in PEM")
	case err != nil:
		l.faultAt(tlsKeys+"cert_file", t.CertFile, err.Error(), "name a file with our certificate in PEM")
	case time.Now().After(pair.Leaf.NotAfter):
		l.warn(tlsKeys+"cert_file", "the certificate in %s ran out on %s: peers will refuse it until the file has a new one", t.CertFile,
			pair.Leaf.NotAfter.UTC().Format(time.DateOnly))
	}
}

// readNamed reads a file that a key below upstream.tls names. It is not ok when there is none or it cannot be read.
func (l *loader) readNamed(key, name string) (text []byte, ok bool) {
	if name == "" {
		return nil, false
	}
	text, err := l.read(name)
	if err != nil {
		l.faultAt(tlsKeys+key, name, "cannot read the file: "+reason(err), "name a file that is there and that flyproxy may read")
		return nil, false
	}
	return text, true
}

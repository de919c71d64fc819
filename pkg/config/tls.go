package config

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
)

const (
	upstreamTLS   = "upstream.tls."
	downstreamTLS = "downstream.tls."
)

// checkTLS reads the files that upstream.tls names, so that what is wrong with them is said before the first call finds out.
func (l *loader) checkTLS(cfg *Config) {
	t := &cfg.Upstream.TLS
	if !t.Enabled {
		l.warnTLSIsOff(upstreamTLS, "ca_file", t.CAFile, "cert_file", t.CertFile, "key_file", t.KeyFile, "server_name", t.ServerName)
		return
	}
	if t.ServerName != "" {
		if _, err := netip.ParseAddr(t.ServerName); err != nil {
			if wrong := checkHost(t.ServerName); wrong != nil {
				l.faultAt(upstreamTLS+"server_name", t.ServerName, wrong.problem, "write the host name in the peers' certificates, without a port")
			}
		}
	}
	l.checkAuthorities(upstreamTLS+"ca_file", t.CAFile)
	l.checkPair(upstreamTLS, t.CertFile, t.KeyFile, "peers")
	l.warnHealthIsPlain(cfg)
}

// checkDownstreamTLS does the same for downstream.tls.
func (l *loader) checkDownstreamTLS(t DownstreamTLS) {
	if !t.Enabled {
		l.warnTLSIsOff(downstreamTLS, "cert_file", t.CertFile, "key_file", t.KeyFile, "client_ca_file", t.ClientCAFile)
		return
	}
	if t.CertFile == "" && t.KeyFile == "" && !l.refusedBelow("downstream.tls") && !l.blind {
		l.faultAt(downstreamTLS+"cert_file", "", "missing: who takes TLS must show clients a certificate",
			"set it to the file with the gateway's certificate, and key_file to the one with its private key")
	}
	l.checkAuthorities(downstreamTLS+"client_ca_file", t.ClientCAFile)
	l.checkPair(downstreamTLS, t.CertFile, t.KeyFile, "clients")
}

func (l *loader) checkAuthorities(key, name string) {
	if text, ok := l.readNamed(key, name); ok {
		if _, err := tlsfiles.Authorities(text); err != nil {
			l.faultAt(key, name, err.Error(), "name a file with the certificates of the authorities in PEM")
		}
	}
}

// warnHealthIsPlain: who speaks TLS to peers most likely has an app that takes nothing else, and its health checks would fail.
func (l *loader) warnHealthIsPlain(cfg *Config) {
	if !cfg.Registers() {
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

// warnTLSIsOff warns of the keys that have a value; keys and values take turns.
func (l *loader) warnTLSIsOff(group string, keys ...string) {
	for ; len(keys) > 0; keys = keys[2:] {
		if keys[1] != "" {
			l.warn(group+keys[0], "not used: TLS is off (%senabled)", group)
		}
	}
}

// checkPair checks a certificate and its key, which the others, peers or clients, are shown.
func (l *loader) checkPair(group, certFile, keyFile, others string) {
	switch {
	case certFile != "" && keyFile == "":
		l.faultAt(group+"key_file", "", "missing: cert_file is set, and a certificate is of no use without its private key",
			"set it to the file with the private key, or remove cert_file")
	case certFile == "" && keyFile != "":
		l.faultAt(group+"cert_file", "", "missing: key_file is set, and a private key is of no use without its certificate",
			"set it to the file with the certificate, or remove key_file")
	}
	cert, haveCert := l.readNamed(group+"cert_file", certFile)
	key, haveKey := l.readNamed(group+"key_file", keyFile)
	if !haveCert || !haveKey {
		return
	}
	pair, err := tlsfiles.Pair(cert, key)
	switch {
	case errors.Is(err, tlsfiles.ErrMismatch):
		l.faultAt(group+"key_file", keyFile, "not the private key of the certificate in "+certFile,
			"name the key that the certificate was made for; where the file has several certificates, ours comes first")
	case errors.Is(err, tlsfiles.ErrEncryptedKey):
		l.faultAt(group+"key_file", keyFile, "a private key with a passphrase, which nobody can type in here",
			"name a file with the key in the clear, readable by flyproxy only")
	case tlsfiles.OfKey(err):
		l.faultAt(group+"key_file", keyFile, err.Error(), "name a file with the certificate's private key in PEM")
	case err != nil:
		l.faultAt(group+"cert_file", certFile, err.Error(), "name a file with our certificate in PEM")
	case time.Now().After(pair.Leaf.NotAfter):
		l.warn(group+"cert_file", "the certificate in %s ran out on %s: %s will refuse it until the file has a new one", certFile,
			pair.Leaf.NotAfter.UTC().Format(time.DateOnly), others)
	}
}

// readNamed reads a file that a key names. It is not ok when there is none or it cannot be read.
func (l *loader) readNamed(key, name string) (text []byte, ok bool) {
	if name == "" {
		return nil, false
	}
	text, err := l.read(name)
	if err != nil {
		l.faultAt(key, name, "cannot read the file: "+reason(err), "name a file that is there and that flyproxy may read")
		return nil, false
	}
	return text, true
}

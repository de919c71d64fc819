package downstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
)

// reason is why a connection was closed.
type reason uint8

const (
	reasonAddress reason = iota
	reasonTooMany
	reasonTimeout
	reasonPlainText
	reasonNoALPN
	reasonVersion
	reasonNoCertificate
	reasonUnknownAuthority
	reasonExpired
	reasonCertificate
	reasonAlert
	reasonGone
	reasonOther

	reasons // how many there are
)

// String is the reason as metrics and logs have it.
func (r reason) String() string {
	return [reasons]string{
		"address", "too_many_handshakes", "handshake_timeout", "plain_text", "no_alpn", "tls_version", "no_certificate",
		"unknown_authority", "certificate_expired", "certificate", "client_alert", "client_gone", "other",
	}[r]
}

// says is what is wrong and what to do.
func (r reason) says() string {
	return [reasons]string{
		"a client was refused: its address is outside of downstream.allowed_networks (FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS); " +
			"if it may call, add its network there",
		"a client was refused: as many TLS handshakes are under way as limits.max_connections allows, most of them of its network, this one " +
			"the longest; is it a client for plain text, or none at all?",
		"a client was refused: its TLS handshake took longer than limits.handshake_timeout; is it a client for plain text, or none at all?",
		"a client was refused: it speaks plain text, and this port takes TLS; have it use TLS, or set downstream.tls.enabled to false",
		"a client was refused: it does not offer h2 by ALPN, as HTTP/2 over TLS must (RFC 9113 §3.2); it may speak HTTP/1 only, or be too old",
		"a client was refused: it knows no TLS as new as 1.2",
		"a client was refused: it shows no certificate; give it one that an authority in downstream.tls.client_ca_file signed",
		"a client was refused: no authority in downstream.tls.client_ca_file signed its certificate; give it another one, or add its authority",
		"a client was refused: its certificate has run out, or is not valid yet; renew it, and look at both clocks",
		"a client was refused: its certificate is not good for a client; the error says why",
		"a client gave up its TLS handshake, most likely because it does not take our certificate (downstream.tls.cert_file): " +
			"it must trust that one's authority, and the name that it dials must stand in it",
		"a client went away in its TLS handshake, as TCP health checks and port scanners do",
		"a client was refused: its TLS handshake failed",
	}[r]
}

func (r reason) level() slog.Level {
	if r == reasonGone {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// errNoALPN says that a client speaks TLS but does not say that it speaks HTTP/2.
var errNoALPN = errors.New("the client offers no protocol by ALPN")

// reasonOf tells why a handshake failed. Where crypto/tls has no type for an error its words decide, which a test pins.
func reasonOf(err error) reason {
	var plain tls.RecordHeaderError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var unverified *tls.CertificateVerificationError
	var op *net.OpError
	says := func(words string) bool { return strings.Contains(err.Error(), words) }
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return reasonTimeout
	case errors.As(err, &plain):
		return reasonPlainText
	case errors.Is(err, errNoALPN), says("client requested unsupported application protocols"):
		return reasonNoALPN
	case says("client offered only unsupported versions"):
		return reasonVersion
	case says("client didn't provide a certificate"):
		return reasonNoCertificate
	case errors.As(err, &unknown):
		return reasonUnknownAuthority
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return reasonExpired
	case errors.As(err, &unverified):
		return reasonCertificate
	case errors.As(err, &op) && op.Op == "remote error": // an alert
		return reasonAlert
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return reasonGone
	}
	return reasonOther
}

package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"time"
)

// Endpoint is one configured address.
type Endpoint struct {
	Address string
	// Err is why no connection could be made; nil where one could.
	Err error
	// Speaks is what the other side was found to speak, where it is not what was tried.
	Speaks Speaks
	// Open means that it answers who has shown no password.
	Open bool
	// Begins and Ends are of the server's certificate; zero without TLS.
	Begins, Ends time.Time
}

// Speaks is what a server speaks.
type Speaks uint8

// What a server may speak.
const (
	// SpeaksAsExpected means what is configured, or that nothing is known.
	SpeaksAsExpected Speaks = iota
	// SpeaksPlain means a Redis without TLS, where TLS is configured.
	SpeaksPlain
	// SpeaksTLS means TLS, where it is not configured.
	SpeaksTLS
	// SpeaksNothing means that connections are accepted and nothing is answered, as when the process hangs or is stopped.
	SpeaksNothing
	// SpeaksOther means something that is no Redis.
	SpeaksOther
)

// reachAll dials each address, all at the same time.
func reachAll(ctx context.Context, cfg *Config) []Endpoint {
	out := make([]Endpoint, len(cfg.Addresses))
	var all sync.WaitGroup
	for i, address := range cfg.Addresses {
		all.Go(func() { out[i] = reachOne(ctx, cfg, address) })
	}
	all.Wait()
	return out
}

func reachOne(ctx context.Context, cfg *Config, address string) Endpoint {
	at := Endpoint{Address: address}
	tlsConfig, err := cfg.TLS.config()
	if err != nil {
		at.Err = err
		return at
	}
	timeout := cfg.DialTimeout
	if timeout <= 0 {
		timeout = DefaultDialTimeout
	}
	d := &dialer{net: net.Dialer{Timeout: timeout}, tls: tlsConfig, timeout: timeout}
	conn, err := d.dial(ctx, "tcp", address)
	if err != nil {
		at.Err = err
		if tlsConfig != nil && !OfCertificate(err) && pingPlain(ctx, address, timeout) {
			at.Speaks = SpeaksPlain
		}
		return at
	}
	defer func() { _ = conn.Close() }()
	if tc, ok := conn.(*tls.Conn); ok {
		if chain := tc.ConnectionState().PeerCertificates; len(chain) > 0 {
			at.Begins, at.Ends = chain[0].NotBefore, chain[0].NotAfter
		}
	}
	answered, open := pingOn(conn, timeout)
	at.Open = open
	at.Speaks = answered
	if tlsConfig == nil && answered != SpeaksAsExpected && speaksTLS(ctx, address, timeout) {
		at.Speaks = SpeaksTLS
	}
	return at
}

// pingPlain tells whether a Redis answers at address without TLS.
func pingPlain(ctx context.Context, address string, timeout time.Duration) bool {
	conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	answered, _ := pingOn(conn, timeout)
	return answered == SpeaksAsExpected
}

// pingOn sends a PING and looks at the first byte of the answer, which for a Redis is one of two: it answers (and so is open), or
// refuses.
func pingOn(conn net.Conn, timeout time.Duration) (answered Speaks, open bool) {
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if _, err := conn.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return SpeaksOther, false
	}
	var first [1]byte
	if _, err := conn.Read(first[:]); err != nil {
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return SpeaksNothing, false
		}
		return SpeaksOther, false
	}
	switch first[0] {
	case '+':
		return SpeaksAsExpected, true
	case '-':
		return SpeaksAsExpected, false
	}
	return SpeaksOther, false
}

// speaksTLS tells whether a handshake succeeds with whatever certificate. Nothing is sent on such a connection.
func speaksTLS(ctx context.Context, address string, timeout time.Duration) bool {
	d := &dialer{net: net.Dialer{Timeout: timeout}, tls: &tls.Config{InsecureSkipVerify: true}, timeout: timeout}
	conn, err := d.dial(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// OfCertificate tells whether a TLS handshake failed for the server's certificate.
func OfCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

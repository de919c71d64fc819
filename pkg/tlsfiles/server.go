package tlsfiles

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"
)

// ServerConfig names the files.
type ServerConfig struct {
	// CertFile has the certificate that clients are shown, followed by intermediate ones, and KeyFile its private key, both in PEM.
	CertFile, KeyFile string
	// ClientCAFile has the authorities, in PEM, one of which must have signed a client's certificate; empty asks for none.
	ClientCAFile string
	// Logger is told of every change that was taken, and once of each that could not be; it may be nil.
	Logger *slog.Logger
}

// Server makes the configurations of one server's handshakes. Its method may be called concurrently.
type Server struct{ watched }

// NewServer reads the files for the first time. Its error says which of them is not as it should be.
func NewServer(cfg ServerConfig) (*Server, error) {
	s := &Server{watched{
		names: []any{"cert_file", cfg.CertFile, "key_file", cfg.KeyFile, "client_ca_file", cfg.ClientCAFile}, make: forServer,
	}}
	if cfg.CertFile == "" {
		return nil, ErrHalfPair
	}
	if err := s.begin(cfg.Logger, cfg.ClientCAFile, cfg.CertFile, cfg.KeyFile); err != nil {
		return nil, err
	}
	return s, nil
}

// Trouble says what is wrong with the files as they are now: that they cannot be used, so that those from before stay in force, or that
// the certificate in force has run out. It is empty when all is well.
func (s *Server) Trouble() string {
	current := s.TLS()
	s.mu.Lock()
	trouble := s.trouble
	s.mu.Unlock()
	if trouble != "" {
		return "the files have changed and cannot be used, and the ones from before stay in force: " + trouble
	}
	if end := current.Certificates[0].Leaf.NotAfter; time.Now().After(end) {
		return fmt.Sprintf("the certificate in %s ran out on %s: clients refuse it until the file has a new one", s.seen[certificate].path,
			end.UTC().Format(time.DateOnly))
	}
	return ""
}

func forServer(seen *[3]version) (*tls.Config, error) {
	ours, err := pair(seen)
	if err != nil {
		return nil, err
	}
	made := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{ours}, CipherSuites: suites(),
		// A session that is resumed would go by what was known when it began, and not by the files as they are now.
		SessionTicketsDisabled: true,
	}
	if ca := &seen[authorities]; ca.path != "" {
		pool, err := Authorities(ca.bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ca.path, err)
		}
		made.ClientCAs, made.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return made, nil
}

// suites are those of TLS 1.2 that HTTP/2 does not prohibit (RFC 9113 §9.2.2, appendix A). TLS 1.3 has no others.
func suites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

package tlsfiles

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"
)

// Config names the files. All but the pair of CertFile and KeyFile stand alone; empty ones are not used.
type Config struct {
	// CAFile has the authorities that servers are checked against, in PEM; empty means those of the system.
	CAFile string
	// CertFile has our own certificate for servers that ask for one, followed by intermediate ones, and KeyFile its private key,
	// both in PEM. Both are set or none.
	CertFile, KeyFile string
	// ServerName is what servers' certificates must be for; empty leaves it to whoever makes the connection.
	ServerName string
	// Logger is told of every change that was taken, and once of each that could not be; it may be nil.
	Logger *slog.Logger
}

// Client makes the configurations of one client's handshakes. Its method may be called concurrently.
type Client struct{ watched }

// New reads the files for the first time. Its error says which of them is not as it should be.
func New(cfg Config) (*Client, error) {
	c := &Client{watched{names: []any{"ca_file", cfg.CAFile, "cert_file", cfg.CertFile, "key_file", cfg.KeyFile}}}
	c.make = func(seen *[3]version) (*tls.Config, error) { return forClient(seen, cfg.ServerName, c.log) }
	if err := c.begin(cfg.Logger, cfg.CAFile, cfg.CertFile, cfg.KeyFile); err != nil {
		return nil, err
	}
	return c, nil
}

func forClient(seen *[3]version, serverName string, log *slog.Logger) (*tls.Config, error) {
	made := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
	if ca := &seen[authorities]; ca.path != "" {
		pool, err := Authorities(ca.bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ca.path, err)
		}
		made.RootCAs = pool
	}
	ours, err := pair(seen)
	if err != nil {
		return nil, err
	}
	made.GetClientCertificate = (&answer{log: log, pair: ours}).get
	return made, nil
}

// answer is what servers get that ask for a certificate. It is told once what may not please them: with TLS 1.3 a server refuses a
// client only after the handshake, and all that is seen of it may be a broken connection.
type answer struct {
	log  *slog.Logger
	pair tls.Certificate // without a certificate where there is none
	said atomic.Bool
}

// get gives the certificate also to a server that does not name its authority. Without one the server could not say what is wrong.
func (a *answer) get(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if len(a.pair.Certificate) == 0 {
		if !a.said.Swap(true) {
			a.log.Warn("a server asks for a certificate, and there is none to show (cert_file, key_file): it may refuse us")
		}
		return &a.pair, nil
	}
	if err := request.SupportsCertificate(&a.pair); err != nil && !a.said.Swap(true) {
		a.log.Warn("a server asks for a certificate, but not for one like ours (cert_file): it may refuse us", "error", err)
	}
	return &a.pair, nil
}

// Package tlsfiles keeps the TLS configuration of a client in step with the files that it is made of: certificate authorities, a
// certificate and its private key, which somebody else renews while we run.
//
// Nothing watches the files. They are looked at when a handshake needs them, which is rare, and read again if they have changed.
// So there is no goroutine to end and no event to miss, and a file that is replaced by a rename, as most tools do, is no special
// case. What a handshake was begun with stays in force for its connection.
package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
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

// racy is how long after its last change a file is read again although it looks unchanged. A second change within one tick of the
// file system's clock leaves size and time as they are, and such a tick may be as long as 2 s.
const racy = 3 * time.Second

// Client makes the configurations of one client's handshakes. Its method may be called concurrently.
type Client struct {
	cfg Config
	log *slog.Logger

	// mu guards the fields below and is held while the files are read, so that handshakes which follow a change have it.
	mu      sync.Mutex
	current *tls.Config
	seen    [3]version // of the CA's, the certificate's and the key's file, as they were last read
	trouble string     // the fault that was last logged, until the files are good again
}

// version is one state of a file.
type version struct {
	path  string
	info  os.FileInfo // nil when there is none: not read yet, or not there
	bytes []byte
}

// New reads the files for the first time. Its error says which of them is not as it should be.
func New(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, log: cfg.Logger, seen: [3]version{{path: cfg.CAFile}, {path: cfg.CertFile}, {path: cfg.KeyFile}}}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, ErrHalfPair
	}
	if _, err := c.read(); err != nil {
		return nil, err
	}
	made, err := c.make()
	if err != nil {
		return nil, err
	}
	c.current = made
	return c, nil
}

// TLS gives the configuration for one handshake, which belongs to the caller. Files that have changed are read first. They are taken
// together or, as long as one of them is missing or does not fit the others, not at all: then the last good ones stay in force.
func (c *Client) TLS() *tls.Config {
	c.mu.Lock()
	said, err := c.refreshLocked()
	made := c.current.Clone()
	c.mu.Unlock()
	switch {
	case err != nil:
		c.log.Error("the TLS files have changed, and cannot be used; the ones from before stay in force until this is put right", "error", err)
	case said:
		c.log.Info("the TLS files have changed: new connections use the new ones",
			"ca_file", c.cfg.CAFile, "cert_file", c.cfg.CertFile, "key_file", c.cfg.KeyFile)
	}
	return made
}

// refreshLocked takes what has changed. It gives what is worth a line in the log: that something was taken, or why not.
func (c *Client) refreshLocked() (taken bool, worth error) {
	changed, err := c.read()
	if err == nil && !changed && c.trouble == "" {
		return false, nil
	}
	var made *tls.Config
	if err == nil {
		made, err = c.make()
	}
	if err != nil {
		if err.Error() == c.trouble {
			return false, nil
		}
		c.trouble = err.Error()
		return false, err
	}
	c.trouble = ""
	c.current = made
	return true, nil
}

// read reads the files that may have changed, and tells whether one has.
func (c *Client) read() (changed bool, err error) {
	for i := range c.seen {
		v := &c.seen[i]
		if v.path == "" {
			continue
		}
		one, readErr := v.read(time.Now())
		changed = changed || one
		if readErr != nil && err == nil {
			err = readErr
		}
	}
	return changed, err
}

// read reads the file again if it is not, or may not be, the one that was read last.
func (v *version) read(now time.Time) (changed bool, err error) {
	info, err := os.Stat(v.path)
	if err != nil {
		v.info = nil
		return false, err
	}
	if v.info != nil && os.SameFile(v.info, info) && v.info.Size() == info.Size() && v.info.ModTime().Equal(info.ModTime()) &&
		now.Sub(info.ModTime()).Abs() > racy {
		return false, nil
	}
	content, err := os.ReadFile(v.path)
	if err != nil {
		v.info = nil
		return false, err
	}
	changed = !bytes.Equal(content, v.bytes)
	v.info, v.bytes = info, content
	return changed, nil
}

// make makes a configuration of what was read.
func (c *Client) make() (*tls.Config, error) {
	made := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.cfg.ServerName}
	if ca := c.seen[0]; ca.path != "" {
		pool, err := Authorities(ca.bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ca.path, err)
		}
		made.RootCAs = pool
	}
	var pair tls.Certificate
	if cert, key := c.seen[1], c.seen[2]; cert.path != "" {
		var err error
		pair, err = Pair(cert.bytes, key.bytes)
		if OfKey(err) {
			return nil, fmt.Errorf("%s: %w", key.path, err)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cert.path, err)
		}
	}
	made.GetClientCertificate = (&answer{log: c.log, pair: pair}).get
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

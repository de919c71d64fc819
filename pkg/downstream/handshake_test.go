package downstream_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/downstream"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

// speak makes a handshake, sends a word and reads the answer, if the gate lets us through.
func speak(t *testing.T, g *guarded, cfg *tls.Config) error {
	t.Helper()
	return speakOn(t, g, dial(t, g.address, ""), cfg)
}

func speakOn(t *testing.T, g *guarded, nc net.Conn, cfg *tls.Config) error {
	t.Helper()
	tc := tls.Client(nc, cfg)
	defer tc.Close()
	if err := tc.Handshake(); err != nil {
		return err
	}
	_, _ = io.WriteString(tc, "hello")
	passed := make(chan net.Conn, 1)
	go func() {
		select {
		case nc := <-g.accepted:
			_, _ = io.CopyN(nc, nc, 5) // an echo
			passed <- nc
		case <-t.Context().Done():
		}
	}()
	b := make([]byte, 5)
	_, err := io.ReadFull(tc, b)
	if err == nil && string(b) != "hello" {
		return fmt.Errorf("the answer begins with %q", b)
	}
	if err == nil {
		nc := <-passed
		if p := nc.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState().NegotiatedProtocol; p != "h2" {
			t.Errorf("the protocol is %q", p)
		}
		_ = nc.Close()
	}
	return err
}

// Each way to fail is counted under its own reason, is logged with what to do, and mostly tells the client too.
func TestHandshakes(t *testing.T) {
	f, others := newFiles(t), tlstest.NewAuthority(t, "others")
	named := func(change func(*tls.Config), pair ...[]byte) *tls.Config {
		cfg := f.client(pair...)
		if change != nil {
			change(cfg)
		}
		return cfg
	}
	cert, key := f.authority.Issue("client")
	strange, strangeKey := others.Issue("stranger")
	old, oldKey := f.authority.IssueUntil(time.Now().Add(-time.Hour), "late")
	for _, tc := range []struct {
		name   string
		mutual bool
		client *tls.Config
		reason string // empty: it is let through
		logged string
		told   string // what the client's error says
	}{
		{name: "TLS 1.3", client: named(nil)},
		{name: "TLS 1.2", client: named(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })},
		{name: "mutual", mutual: true, client: named(nil, cert, key)},
		{name: "mutual with TLS 1.2", mutual: true, client: named(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, cert, key)},
		{
			name: "TLS 1.1", client: named(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }),
			reason: "tls_version", logged: "no TLS as new as 1.2", told: "protocol version not supported",
		},
		{
			name: "a cipher suite that HTTP/2 prohibits",
			client: named(func(c *tls.Config) {
				c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
			}),
			reason: "other", logged: "no cipher suite supported by both", told: "handshake failure",
		},
		{
			name: "no ALPN", client: named(func(c *tls.Config) { c.NextProtos = nil }),
			reason: "no_alpn", logged: "RFC 9113 §3.2", told: "HTTP/",
		},
		{
			name: "another protocol by ALPN", client: named(func(c *tls.Config) { c.NextProtos = []string{"imap"} }),
			reason: "no_alpn", logged: "imap", told: "no application protocol",
		},
		{
			name: "HTTP/1 by ALPN", client: named(func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }),
			reason: "no_alpn", logged: "HTTP/1 only", told: "HTTP/",
		},
		{
			name: "no certificate", mutual: true, client: named(nil),
			reason: "no_certificate", logged: "downstream.tls.client_ca_file", told: "certificate required",
		},
		{
			name: "no certificate with TLS 1.2", mutual: true, client: named(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }),
			reason: "no_certificate", logged: "give it one", told: "handshake failure",
		},
		{
			name: "a certificate of another authority", mutual: true, client: named(nil, strange, strangeKey),
			reason: "unknown_authority", logged: "unknown authority", told: "certificate",
		},
		{
			name: "a certificate that has run out", mutual: true, client: named(nil, old, oldKey),
			reason: "certificate_expired", logged: "renew it", told: "certificate",
		},
		{
			name: "a client that knows another authority", client: named(func(c *tls.Config) { c.RootCAs = others.Pool() }),
			reason: "client_alert", logged: "must trust that one's authority", told: "unknown authority",
		},
		{
			name: "a client that dials another name", client: named(func(c *tls.Config) { c.ServerName = "elsewhere.internal" }),
			reason: "client_alert", logged: "remote error: tls: bad certificate", told: "not elsewhere.internal",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := guard(t, listen(t, "127.0.0.1:0"), downstream.Config{TLS: f.tls(tc.mutual), HandshakeTimeout: patience, MaxHandshakes: 10})
			err := speak(t, g, tc.client)
			if tc.reason == "" {
				if err != nil {
					t.Errorf("%v\n%s", err, g.log)
				}
				g.only(t, "", 0)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.told) {
				t.Errorf("the client is told %v, want %s", err, tc.told)
			}
			eventually(t, "it is counted", func() bool { return g.Refused()[tc.reason] == 1 || strings.Contains(g.log.String(), "\n") })
			g.only(t, tc.reason, 1)
			eventually(t, "it is logged", func() bool { return strings.Contains(g.log.String(), "\n") })
			if log := g.log.String(); !strings.Contains(log, tc.logged) || !strings.Contains(log, "client=127.0.0.1:") {
				t.Errorf("the log lacks %q: %s", tc.logged, log)
			}
		})
	}
}

// Plain text on a TLS port is told so in words that HTTP/1 clients show, and that HTTP/2 clients take for HTTP/1.
func TestPlainTextOnATLSPort(t *testing.T) {
	f := newFiles(t)
	for name, says := range map[string]string{"HTTP/1": "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/2": http2.ClientPreface} {
		t.Run(name, func(t *testing.T) {
			g := guard(t, listen(t, "127.0.0.1:0"), downstream.Config{TLS: f.tls(false), HandshakeTimeout: patience, MaxHandshakes: 10})
			nc := dial(t, g.address, "")
			_, _ = io.WriteString(nc, says+strings.Repeat("x", 32<<10)) // more than is looked at: it must not cost the answer
			b, err := io.ReadAll(nc)
			if !strings.HasPrefix(string(b), "HTTP/1.1 400 ") || !strings.Contains(string(b), "takes gRPC over TLS") || err != nil {
				t.Errorf("%q %v", b, err)
			}
			_ = nc.Close()
			eventually(t, "it is logged", func() bool { return strings.Contains(g.log.String(), "\n") })
			g.only(t, "plain_text", 1)
			if !strings.Contains(g.log.String(), "downstream.tls.enabled") {
				t.Error(g.log)
			}
		})
	}
}

// Closing the listener ends what is under way; that is no client's fault.
func TestCloseDuringHandshakes(t *testing.T) {
	g := guard(t, listen(t, "127.0.0.1:0"), downstream.Config{TLS: newFiles(t).tls(false), HandshakeTimeout: time.Hour, MaxHandshakes: 10})
	var all []net.Conn
	for range 5 {
		all = append(all, dial(t, g.address, ""))
	}
	g.close()
	for _, nc := range all {
		if _, err := io.ReadAll(nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a handshake goes on")
		}
	}
	g.only(t, "", 0)
}

// A port scanner, or a TCP health check, is counted and makes no line.
func TestClientsThatGoAway(t *testing.T) {
	g := guard(t, listen(t, "127.0.0.1:0"), downstream.Config{TLS: newFiles(t).tls(false), HandshakeTimeout: time.Hour, MaxHandshakes: 10})
	_ = dial(t, g.address, "").Close()
	eventually(t, "it is counted", func() bool { return g.Refused()["client_gone"] == 1 })
	if g.log.String() != "" {
		t.Error(g.log)
	}
}

// The next handshake has what is in the files now: certificate, key, and authorities.
func TestFilesAreRenewed(t *testing.T) {
	f, fresh := newFiles(t), tlstest.NewAuthority(t, "fresh")
	g := guard(t, listen(t, "127.0.0.1:0"), downstream.Config{TLS: f.tls(true), HandshakeTimeout: patience, MaxHandshakes: 10})
	cert, key := f.authority.Issue("client")
	newCert, newKey := fresh.Issue("client")
	must(t, speak(t, g, f.client(cert, key)))
	f.write(fresh.Issue("gateway.internal"))
	tlstest.Write(t, f.ca, fresh.PEM())
	if err := speak(t, g, f.client(cert, key)); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a client that trusts the old authority: %v", err)
	}
	f.authority = fresh
	if err := speak(t, g, f.client(newCert, newKey)); err != nil {
		t.Errorf("a client of the new authority: %v", err)
	}
	if err := speak(t, g, f.client(cert, key)); err == nil {
		t.Error("a certificate of the old authority is still taken")
	}
}

// Who closes the connection of a client that does not read waits for nothing.
func TestCloseOfAFullConnection(t *testing.T) {
	f := newFiles(t)
	g := guard(t, listen(t, "127.0.0.1:0"), downstream.Config{TLS: f.tls(false), HandshakeTimeout: patience, MaxHandshakes: 10})
	tc := tls.Client(dial(t, g.address, ""), f.client())
	must(t, tc.Handshake())
	nc := g.next(t)
	// The socket below is filled, and not TLS, which would try no more after a write that was cut.
	below := nc.(interface{ NetConn() net.Conn }).NetConn()
	for _, size := range []int{64 << 10, 1} { // where there is no room for much there may be some for little
		must(t, below.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		for some := make([]byte, size); ; {
			if _, err := below.Write(some); err != nil {
				break
			}
		}
	}
	must(t, below.SetWriteDeadline(time.Time{}))
	began := time.Now()
	_ = nc.(interface{ CloseWrite() error }).CloseWrite()
	_ = nc.Close()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closing took %v", took)
	}
}

package tlsfiles_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
)

// files are a CA's, a certificate's and a key's, somewhere of their own.
type files struct{ ca, cert, key string }

func newFiles(t *testing.T) files {
	t.Helper()
	dir := t.TempDir()
	return files{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
}

// logs collects log lines.
type logs struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

func (f files) client(t *testing.T) (*tlsfiles.Client, *logs) {
	t.Helper()
	log := &logs{}
	c, err := tlsfiles.New(tlsfiles.Config{
		CAFile: f.ca, CertFile: f.cert, KeyFile: f.key, ServerName: "peer.internal", Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, log
}

// handshake connects a client to a server that asks for a certificate of authority a. It gives the client's name as the server sees it.
func handshake(t *testing.T, client *tls.Config, a *tlstest.Authority, names ...string) (string, error) {
	t.Helper()
	cert, key := a.Issue(names...)
	pair, err := tlsfiles.Pair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	server := tls.Server(far, &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: a.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		err := server.HandshakeContext(ctx)
		if err == nil {
			_, err = server.Write([]byte("."))
		}
		served <- err
	}()
	secured := tls.Client(near, client)
	err = secured.HandshakeContext(ctx)
	if err == nil { // TLS 1.3: the server's verdict on our certificate comes with what it sends next
		_, err = secured.Read(make([]byte, 1))
	}
	_ = near.Close()
	if serverErr := <-served; err != nil || serverErr != nil {
		return "", errors.Join(err, serverErr)
	}
	return server.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func TestHandshake(t *testing.T) {
	a, other, f := tlstest.NewAuthority(t, "ours"), tlstest.NewAuthority(t, "another"), newFiles(t)
	cert, key := a.Issue("client")
	tlstest.Write(t, f.ca, a.PEM())
	tlstest.Write(t, f.cert, cert)
	tlstest.Write(t, f.key, key)
	c, _ := f.client(t)
	if name, err := handshake(t, c.TLS(), a, "peer.internal"); err != nil || name != "client" {
		t.Errorf("the server saw %q, %v", name, err)
	}
	if _, err := handshake(t, c.TLS(), a, "elsewhere.internal"); err == nil || !strings.Contains(err.Error(), "not peer.internal") {
		t.Errorf("a server with another name: %v", err)
	}
	if _, err := handshake(t, c.TLS(), other, "peer.internal"); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a server of another authority: %v", err)
	}
}

// A server that asks in vain for a certificate may just break the connection. So we say what it asked for, once.
func TestWhatAServerAsksForIsSaid(t *testing.T) {
	ours, other, f := tlstest.NewAuthority(t, "ours"), tlstest.NewAuthority(t, "another"), newFiles(t)
	tlstest.Write(t, f.ca, ours.PEM())
	log := &logs{}
	c, err := tlsfiles.New(tlsfiles.Config{CAFile: f.ca, ServerName: "peer.internal", Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := handshake(t, c.TLS(), ours, "peer.internal"); err == nil || !strings.Contains(err.Error(), "didn't provide a certificate") {
			t.Errorf("without a certificate: %v", err)
		}
	}
	if n := log.count("there is none to show"); n != 1 {
		t.Errorf("%d lines about it", n)
	}
	cert, key := other.Issue("stranger")
	tlstest.Write(t, f.cert, cert)
	tlstest.Write(t, f.key, key)
	c, log = f.client(t)
	for range 2 {
		if _, err := handshake(t, c.TLS(), ours, "peer.internal"); err == nil || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("with another authority's certificate: %v", err)
		}
	}
	if n := log.count("but not for one like ours"); n != 1 {
		t.Errorf("%d lines about it", n)
	}
}

// The configuration belongs to whoever asked for it.
func TestConfigurationsAreApart(t *testing.T) {
	c, err := tlsfiles.New(tlsfiles.Config{})
	if err != nil {
		t.Fatal(err)
	}
	first := c.TLS()
	first.ServerName, first.NextProtos = "mine", []string{"h2"}
	if second := c.TLS(); second.ServerName != "" || second.NextProtos != nil || second.RootCAs != nil {
		t.Errorf("%+v", second)
	}
}

func TestNewFaults(t *testing.T) {
	a, f := tlstest.NewAuthority(t, "ours"), newFiles(t)
	cert, key := a.Issue("client")
	_, otherKey := a.Issue("other")
	at := func(name string, content []byte) string {
		path := filepath.Join(filepath.Dir(f.ca), name)
		tlstest.Write(t, path, content)
		return path
	}
	good, goodKey, wrongKey, prose := at("good.crt", cert), at("good.key", key), at("other.key", otherKey), at("prose", []byte("no PEM"))
	broken := at("broken", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	for name, tc := range map[string]struct {
		cfg  tlsfiles.Config
		want error
		says string
	}{
		"no such CA":          {tlsfiles.Config{CAFile: f.ca}, fs.ErrNotExist, f.ca},
		"a CA without PEM":    {tlsfiles.Config{CAFile: prose}, tlsfiles.ErrNoCertificate, prose},
		"a CA that is broken": {tlsfiles.Config{CAFile: broken}, tlsfiles.ErrCertificate, broken},
		"no such certificate": {tlsfiles.Config{CertFile: f.cert, KeyFile: goodKey}, fs.ErrNotExist, f.cert},
		"half a pair":         {tlsfiles.Config{CertFile: good}, tlsfiles.ErrHalfPair, "private key"},
		"another key":         {tlsfiles.Config{CertFile: good, KeyFile: wrongKey}, tlsfiles.ErrMismatch, wrongKey},
		"no key":              {tlsfiles.Config{CertFile: good, KeyFile: good}, tlsfiles.ErrNoKey, good},
		"no certificate":      {tlsfiles.Config{CertFile: goodKey, KeyFile: goodKey}, tlsfiles.ErrNoCertificate, goodKey},
	} {
		if _, err := tlsfiles.New(tc.cfg); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %v that says %s", name, err, tc.want, tc.says)
		}
	}
}

// A renewed certificate and a new authority are taken by the next handshake, and the change is logged once.
func TestChangesAreTaken(t *testing.T) {
	old, fresh, f := tlstest.NewAuthority(t, "old"), tlstest.NewAuthority(t, "new"), newFiles(t)
	put := func(a *tlstest.Authority, name string) {
		cert, key := a.Issue(name)
		tlstest.Write(t, f.ca, a.PEM())
		tlstest.Write(t, f.cert, cert)
		tlstest.Write(t, f.key, key)
	}
	put(old, "before")
	c, log := f.client(t)
	begun := c.TLS()
	put(fresh, "after")
	if name, err := handshake(t, c.TLS(), fresh, "peer.internal"); err != nil || name != "after" {
		t.Errorf("the server saw %q, %v", name, err)
	}
	if name, err := handshake(t, begun, old, "peer.internal"); err != nil || name != "before" {
		t.Errorf("what was begun before the change: the server saw %q, %v", name, err)
	}
	for range 3 {
		c.TLS()
	}
	if n := log.count("have changed"); n != 1 {
		t.Errorf("%d lines about one change: %s", n, log.b.String())
	}
}

// While the files do not fit each other, as in the moment between the two being renewed, the last good ones stay in force.
func TestBadFilesAreLeftAside(t *testing.T) {
	a, f := tlstest.NewAuthority(t, "ours"), newFiles(t)
	cert, key := a.Issue("before")
	tlstest.Write(t, f.ca, a.PEM())
	tlstest.Write(t, f.cert, cert)
	tlstest.Write(t, f.key, key)
	c, log := f.client(t)
	still := func(what string) {
		t.Helper()
		for range 3 {
			if name, err := handshake(t, c.TLS(), a, "peer.internal"); err != nil || name != "before" {
				t.Errorf("%s: the server saw %q, %v", what, name, err)
			}
		}
	}
	newCert, newKey := a.Issue("after")
	tlstest.Write(t, f.cert, newCert)
	still("a new certificate with the old key")
	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	still("no key")
	tlstest.Write(t, f.key, newKey[:len(newKey)/2])
	still("half a key")
	if bad, good := log.count("cannot be used"), log.count("use the new ones"); bad != 3 || good != 0 {
		t.Errorf("%d lines about three faults, %d about success: %s", bad, good, log.b.String())
	}
	tlstest.Write(t, f.key, newKey)
	if name, err := handshake(t, c.TLS(), a, "peer.internal"); err != nil || name != "after" {
		t.Errorf("with the new key: the server saw %q, %v", name, err)
	}
	if n := log.count("use the new ones"); n != 1 {
		t.Errorf("%d lines about the change", n)
	}
}

// A file that is written over in place, with as many bytes and at the same time as the file system sees it, is another one all the same.
func TestChangeWithinOneTickOfTheClock(t *testing.T) {
	a, f := tlstest.NewAuthority(t, "ours"), newFiles(t)
	tlstest.Write(t, f.ca, a.PEM())
	write := func(cert, key []byte, at time.Time) {
		t.Helper()
		for path, content := range map[string][]byte{f.cert: cert, f.key: key} {
			padded := append(bytes.Clone(content), bytes.Repeat([]byte("\n"), 2000-len(content))...)
			if err := os.WriteFile(path, padded, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	at := time.Now()
	cert, key := a.Issue("before")
	write(cert, key, at)
	c, _ := f.client(t)
	cert, key = a.Issue("after")
	write(cert, key, at)
	if name, err := handshake(t, c.TLS(), a, "peer.internal"); err != nil || name != "after" {
		t.Errorf("the server saw %q, %v", name, err)
	}
}

// Files that have long not changed are not read for every handshake.
func TestUnchangedFilesAreNotRead(t *testing.T) {
	a, f := tlstest.NewAuthority(t, "ours"), newFiles(t)
	tlstest.Write(t, f.ca, a.PEM())
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(f.ca, old, old); err != nil {
		t.Fatal(err)
	}
	c, err := tlsfiles.New(tlsfiles.Config{CAFile: f.ca})
	if err != nil {
		t.Fatal(err)
	}
	// Only a reading would find this change: the file's size and time stay as they are.
	garbage := bytes.Repeat([]byte("x"), len(a.PEM()))
	if err := os.WriteFile(f.ca, garbage, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(f.ca, old, old); err != nil {
		t.Fatal(err)
	}
	if !c.TLS().RootCAs.Equal(a.Pool()) {
		t.Error("the authorities have changed")
	}
}

func TestManyHandshakesWhileFilesChange(t *testing.T) {
	a, f := tlstest.NewAuthority(t, "ours"), newFiles(t)
	cert, key := a.Issue("client")
	tlstest.Write(t, f.ca, a.PEM())
	tlstest.Write(t, f.cert, cert)
	tlstest.Write(t, f.key, key)
	c, _ := f.client(t)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				// Never a certificate with another one's key.
				pair, err := c.TLS().GetClientCertificate(&tls.CertificateRequestInfo{})
				if err != nil {
					t.Error(err)
				} else if !pair.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(pair.PrivateKey.(crypto.Signer).Public()) {
					t.Error("a certificate with another one's key")
				}
			}
		})
	}
	for range 50 {
		cert, key := a.Issue("client")
		tlstest.Write(t, f.cert, cert)
		tlstest.Write(t, f.key, key)
	}
	close(done)
	wg.Wait()
}

package downstream_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/downstream"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles/tlstest"
	"github.com/flyproxy/flyproxy/test/conformance/leak"
)

// patience bounds every wait.
const patience = 20 * time.Second

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

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// guarded is a gate before a listener; what passes it comes out of accepted.
type guarded struct {
	*downstream.Gate
	address  string
	accepted chan net.Conn
	log      *logs
	close    func()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// guard puts a gate before lis until the test's end.
func guard(t *testing.T, lis net.Listener, cfg downstream.Config) *guarded {
	t.Helper()
	leak.Check(t, "flyproxy/pkg/downstream")
	g := &guarded{accepted: make(chan net.Conn, 100), log: &logs{}, address: lis.Addr().String()}
	cfg.Logger = slog.New(slog.NewTextHandler(g.log, nil))
	g.Gate = downstream.New(cfg)
	out := g.Guard(lis)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			nc, err := out.Accept()
			if err != nil {
				return
			}
			g.accepted <- nc
		}
	}()
	g.close = sync.OnceFunc(func() {
		_ = out.Close()
		<-ended
	})
	t.Cleanup(func() {
		g.close()
		for len(g.accepted) > 0 {
			_ = (<-g.accepted).Close()
		}
	})
	return g
}

// next is the next connection that passed the gate.
func (g *guarded) next(t *testing.T) net.Conn {
	t.Helper()
	select {
	case nc := <-g.accepted:
		t.Cleanup(func() { _ = nc.Close() })
		return nc
	case <-time.After(patience):
		t.Fatal("nobody was accepted")
		return nil
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !ok(); <-tick.C {
		if time.Since(began) > patience {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", address)
	must(t, err)
	return lis
}

func dial(t *testing.T, address, from string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	nc, err := d.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	must(t, nc.SetDeadline(time.Now().Add(patience)))
	return nc
}

// turnedAway connects and gives what comes of it: an error, unless it was not turned away. A reset may come so early that connecting fails.
func turnedAway(t *testing.T, address, from string, says string) error {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer nc.Close()
	must(t, nc.SetDeadline(time.Now().Add(patience)))
	_, _ = io.WriteString(nc, says)
	if _, err = nc.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

func prefixes(all ...string) (out []netip.Prefix) {
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// files are a server's, and the authority that made them.
type files struct {
	t             *testing.T
	ca, cert, key string
	authority     *tlstest.Authority
}

func newFiles(t *testing.T) *files {
	t.Helper()
	dir := t.TempDir()
	f := &files{
		t: t, ca: filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"),
		authority: tlstest.NewAuthority(t, "ours"),
	}
	tlstest.Write(t, f.ca, f.authority.PEM())
	f.write(f.authority.Issue("gateway.internal"))
	return f
}

func (f *files) write(cert, key []byte) {
	f.t.Helper()
	tlstest.Write(f.t, f.cert, cert)
	tlstest.Write(f.t, f.key, key)
}

// tls gives the configurations of a server, mutual where that is asked for.
func (f *files) tls(mutual bool) func() *tls.Config {
	f.t.Helper()
	cfg := tlsfiles.ServerConfig{CertFile: f.cert, KeyFile: f.key}
	if mutual {
		cfg.ClientCAFile = f.ca
	}
	s, err := tlsfiles.NewServer(cfg)
	must(f.t, err)
	return s.TLS
}

// client is the configuration of a client that trusts our authority and speaks HTTP/2, with a certificate where one is given.
func (f *files) client(pair ...[]byte) *tls.Config {
	f.t.Helper()
	cfg := &tls.Config{RootCAs: f.authority.Pool(), ServerName: "gateway.internal", NextProtos: []string{"h2"}}
	if len(pair) == 2 {
		cert, err := tlsfiles.Pair(pair[0], pair[1])
		must(f.t, err)
		// Whatever the server asks for: it is to see for itself.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

// only checks that this reason was counted n times, and no other at all.
func (g *guarded) only(t *testing.T, reason string, n uint64) {
	t.Helper()
	if reason != "" { // a client may see the end of its connection before it is counted
		eventually(t, fmt.Sprintf("%d refused for %s", n, reason), func() bool { return g.Refused()[reason] >= n })
	}
	for r, got := range g.Refused() {
		if want := map[bool]uint64{true: n}[r == reason]; got != want {
			t.Errorf("refused for %s: %d, want %d\n%s", r, got, want, strings.TrimSpace(g.log.String()))
		}
	}
}

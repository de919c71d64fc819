package downstream_test

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/downstream"
)

// readers counts the reads of the connections of a listener.
type readers struct {
	net.Listener
	reads atomic.Int64
}

type reader struct {
	net.Conn
	reads *atomic.Int64
}

func (l *readers) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &reader{nc, &l.reads}, nil
}

func (c *reader) Read(b []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(b)
}

// A client from elsewhere is closed unread, counted each time, and logged once a minute; others are accepted meanwhile.
func TestClientsFromElsewhere(t *testing.T) {
	lis := &readers{Listener: listen(t, "127.0.0.1:0")}
	g := guard(t, lis, downstream.Config{Networks: prefixes("127.0.0.1/32", "fdaa::/16")})
	const times = 50
	for range times {
		if turnedAway(t, g.address, "127.0.0.2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == nil {
			t.Fatal("a client from elsewhere was not closed")
		}
	}
	nc := dial(t, g.address, "127.0.0.1")
	_, _ = io.WriteString(nc, "hello")
	if b, err := io.ReadAll(io.LimitReader(g.next(t), 5)); string(b) != "hello" || err != nil {
		t.Errorf("a client from here: %q %v", b, err)
	}
	if n := lis.reads.Load(); n != 1 {
		t.Errorf("%d reads, want the one of the client that may", n)
	}
	g.only(t, "address", times)
	log := g.log.String()
	for _, want := range []string{"client=127.0.0.2:", "downstream.allowed_networks", "FLYPROXY_DOWNSTREAM_ALLOWED_NETWORKS", "fdaa::/16", "listener=" + g.address} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if n := strings.Count(log, "\n"); n != 1 {
		t.Errorf("%d lines about %d refusals\n%s", n, times, log)
	}
}

// Many different addresses fill neither the log nor memory.
func TestLogOfManyAddressesIsBounded(t *testing.T) {
	g := guard(t, listen(t, "127.0.0.1:0"), downstream.Config{Networks: prefixes("fdaa::/16")})
	const addresses = 200
	for i := range addresses {
		if turnedAway(t, g.address, fmt.Sprintf("127.0.1.%d", i+1), "") == nil {
			t.Fatal("a client from elsewhere was not closed")
		}
	}
	g.only(t, "address", addresses)
	if n := strings.Count(g.log.String(), "\n"); n > 40 {
		t.Errorf("%d lines", n)
	}
}

// Who dials IPv4 on a listener for both is seen under an IPv4-mapped address.
func TestIPv4OnAListenerForBoth(t *testing.T) {
	lis := listen(t, "[::]:0")
	_, port, _ := net.SplitHostPort(lis.Addr().String())
	g := guard(t, lis, downstream.Config{Networks: prefixes("127.0.0.0/30", "::1/128")})
	for _, c := range []struct{ to, from string }{{"127.0.0.1", "127.0.0.1"}, {"127.0.0.1", "127.0.0.3"}, {"::1", "::1"}} {
		_ = dial(t, net.JoinHostPort(c.to, port), c.from)
		g.next(t)
	}
	if turnedAway(t, "127.0.0.1:"+port, "127.0.0.4", "") == nil {
		t.Error("a client from elsewhere was not closed")
	}
	g.only(t, "address", 1)
	eventually(t, "the log names the client", func() bool { // it does so after the client is closed
		return strings.Contains(g.log.String(), "client=127.0.0.4:") || strings.Contains(g.log.String(), "[::ffff:127.0.0.4]:")
	})
}

// Unix sockets are guarded by their files' permissions, and take plain text.
func TestUnixSocketsPass(t *testing.T) {
	path := filepath.Join(t.TempDir(), "g.sock")
	lis, err := net.Listen("unix", path)
	must(t, err)
	g := guard(t, lis, downstream.Config{Networks: prefixes("fdaa::/16"), TLS: newFiles(t).tls(true), HandshakeTimeout: patience, MaxHandshakes: 1})
	nc, err := net.Dial("unix", path)
	must(t, err)
	defer nc.Close()
	_, _ = io.WriteString(nc, "hello")
	if b, err := io.ReadAll(io.LimitReader(g.next(t), 5)); string(b) != "hello" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	g.only(t, "", 0)
}

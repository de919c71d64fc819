package grpcengine_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/grpcengine"
)

func TestIdleConnectionsAreClosed(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, echo)
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.IdleTimeout = 50 * time.Millisecond }})
	s.use(b)
	cc := dial(t, s.address)
	for range 2 {
		_, err := unary(testContext(t), cc, "x")
		must(t, err)
		eventually(t, "the connection is closed", func() bool { return len(s.engine.Stats().Peers) == 0 })
	}
}

func TestAddressOutsideAllowedNetworksIsNotDialled(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, echo)
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) {
		c.AllowedNetworks = []netip.Prefix{netip.MustParsePrefix("fdaa::/16")}
	}})
	_, port, err := net.SplitHostPort(b.address)
	must(t, err)
	s.set(instance("by-name", "localhost:"+port))
	if _, err := unary(testContext(t), dial(t, s.address), "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if b.calls.Load() != 0 {
		t.Error("the peer was called")
	}
}

func TestNameIsResolvedWhenDialling(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, echo)
	s := startSidecar(t, options{})
	_, port, err := net.SplitHostPort(b.address)
	must(t, err)
	s.set(instance("by-name", "localhost:"+port))
	_, err = unary(testContext(t), dial(t, s.address), "x")
	must(t, err)
}

func TestProxyEnvironmentIsIgnored(t *testing.T) {
	leakCheck(t)
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	_, _, cc := pair(t, echo)
	_, err := unary(testContext(t), cc, "x")
	must(t, err)
}

// What a peer sends wrong is this call's status, and leaves the others alone.
func TestPeerThatSpeaksSomethingElse(t *testing.T) {
	leakCheck(t)
	l := listen(t, "127.0.0.1:0")
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(nc, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			nc.Close()
		}
	})
	defer wg.Wait()
	defer l.Close()
	b := startBackend(t, echo)
	s := startSidecar(t, options{})
	s.set(instance("http1", l.Addr().String()), instance("live", b.address))
	cc := dial(t, s.address)
	for range 20 {
		_, err := unary(testContext(t), cc, "x")
		must(t, err)
	}
	s.quiet()
}

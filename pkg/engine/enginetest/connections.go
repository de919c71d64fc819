package enginetest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// connections are tests of how connections to peers are made and closed.
func connections() []one {
	return []one{
		{"IdleOnesAreClosed", testIdleConnectionsAreClosed},
		{"WithACallIsNotIdle", testConnectionWithACallIsNotIdle},
		{"AddressOutsideAllowedNetworksIsNotDialled", testAllowedNetworks},
		{"OwnListenerIsNotDialled", testOwnListener},
		{"NameIsResolvedWhenDialling", testNameIsResolved},
		{"ProxyEnvironmentIsIgnored", testProxyEnvironment},
	}
}

// twoRegions puts a peer of our region in force, and one of another: an engine may keep connections to peers that calls are
// likely to go to, and those in the other region are not. The client's context pins a call to a peer.
func (s *Sidecar) twoRegions(near, far string) (at func(context.Context, string) context.Context) {
	in := Instance("far", far)
	in.Region = "syd"
	s.Set(Instance("near", near), in)
	return func(ctx context.Context, id string) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", id)
	}
}

func testIdleConnectionsAreClosed(t *testing.T, e Subject) {
	closed := make(chan int, 2)
	far := StartRawPeer(t, nil, func(c *RawConn) {
		AnswerAll("x")(c)
		Offer(closed, c.N)
	})
	s := e.Start(t, Setup{Options: Options{IdleTimeout: 50 * time.Millisecond}})
	at := s.twoRegions(StartBackend(t, Echo).Address, far.Address)
	cc := Dial(t, s.Address)
	for i := range 2 {
		_, err := Unary(at(Context(t), "far"), cc, "x")
		Must(t, err)
		if n := Receive(t, closed); n != i {
			t.Errorf("connection %d was closed, want %d", n, i)
		}
		Eventually(t, "Stats have forgotten it", func() bool { return peerOf(s.Engine.Stats(), "far").Ready == 0 })
	}
}

// A call may say nothing for longer than connections are kept without a call.
func testConnectionWithACallIsNotIdle(t *testing.T, e Subject) {
	release := make(chan struct{})
	far := StartBackend(t, func(b *Backend, s grpc.ServerStream) error {
		if md, _ := metadata.FromIncomingContext(s.Context()); md["hold"] != nil {
			return Hold(release)(b, s)
		}
		return Echo(b, s)
	}, grpc.MaxConcurrentStreams(1))
	s := e.Start(t, Setup{Options: Options{IdleTimeout: 50 * time.Millisecond, MaxConnectionsPerPeer: 2}})
	at := s.twoRegions(StartBackend(t, Echo).Address, far.Address)
	cc := Dial(t, s.Address)
	st := Begin(t, metadata.AppendToOutgoingContext(at(Context(t), "far"), "hold", ""), cc)
	for range 3 {
		_, err := Unary(at(Context(t), "far"), cc, "x")
		Must(t, err)
		Eventually(t, "the other connection is closed", func() bool { return peerOf(s.Engine.Stats(), "far").Ready == 1 })
	}
	close(release)
	finish(t, st)
	s.Quiet()
}

func testAllowedNetworks(t *testing.T, e Subject) {
	b := StartBackend(t, Echo)
	s := e.Start(t, Setup{Options: Options{AllowedNetworks: []netip.Prefix{netip.MustParsePrefix("fdaa::/16")}}})
	_, port, err := net.SplitHostPort(b.Address)
	Must(t, err)
	for _, host := range []string{"localhost", "127.0.0.1"} {
		s.Set(Instance("by-"+host, host+":"+port))
		if _, err := Unary(Context(t), Dial(t, s.Address), "x"); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: got %v", host, err)
		}
	}
	if b.Calls.Load() != 0 {
		t.Error("the peer was called")
	}
	s.Quiet()
}

// A name of which only dialling tells that it is the sidecar's own: the call goes to another peer, and ends at once where there is none.
func testOwnListener(t *testing.T, e Subject) {
	us, other := StartBackend(t, Echo), StartBackend(t, Echo)
	own, err := netip.ParseAddrPort(us.Address)
	Must(t, err)
	s := e.Start(t, Setup{Options: Options{Own: func(at netip.AddrPort) bool { return at.Port() == own.Port() }}})
	back := Instance("back", fmt.Sprint("localhost:", own.Port()))
	s.Set(back, Instance("other", other.Address))
	for range 10 {
		_, err := Unary(Context(t), Dial(t, s.Address), "x")
		Must(t, err)
	}
	s.Set(back)
	if _, err := Unary(Context(t), Dial(t, s.Address), "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("nobody else: got %v", err)
	}
	if us.Calls.Load() != 0 || other.Calls.Load() != 10 {
		t.Errorf("%d calls came back, %d went on", us.Calls.Load(), other.Calls.Load())
	}
	s.Quiet()
}

func testNameIsResolved(t *testing.T, e Subject) {
	b := StartBackend(t, Echo)
	s := e.Start(t, Setup{})
	_, port, err := net.SplitHostPort(b.Address)
	Must(t, err)
	s.Set(Instance("by-name", "localhost:"+port))
	_, err = Unary(Context(t), Dial(t, s.Address), "x")
	Must(t, err)
}

// HTTPS_PROXY is meant for the outside world, never for peers.
func testProxyEnvironment(t *testing.T, e Subject) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	_, _, cc := e.Pair(t, Echo)
	_, err := Unary(Context(t), cc, "x")
	Must(t, err)
}

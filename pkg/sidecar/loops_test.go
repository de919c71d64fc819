package sidecar

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

func TestLoops(t *testing.T) {
	other := "fdaa:0:9::2" // nobody's here
	host := hostAddress(nil, nil)
	for _, tc := range []struct {
		name, own string
		address   string
		loop      bool
	}{
		{"itself", "[fdaa:0:1::2]:50052", "[fdaa:0:1::2]:50052", true},
		{"another form of it", "[fdaa:0:1::2]:50052", "[fdaa:0:1:0:0:0:0:2]:50052", true},
		{"its Machine's app", "[fdaa:0:1::2]:50052", "[fdaa:0:1::2]:50051", false},
		{"another Machine", "[fdaa:0:1::2]:50052", "[" + other + "]:50052", false},
		{"loopback, where we do not listen", "[fdaa:0:1::2]:50052", "127.0.0.1:50052", false},
		{"loopback", "[::]:50052", "127.0.0.1:50052", true},
		{"more of loopback", "[::]:50052", "127.8.9.1:50052", true},
		{"IPv6 loopback", "[::]:50052", "[::1]:50052", true},
		{"an IPv4-mapped one", "[::]:50052", "[::ffff:127.0.0.1]:50052", true},
		{"IPv6 where we have IPv4 only", "0.0.0.0:50052", "[::1]:50052", false},
		{"no address at all", "[::]:50052", "0.0.0.0:50052", true},
		{"no address leads to loopback", "127.0.0.1:50052", "0.0.0.0:50052", true},
		{"an address of this host", "[::]:50052", net.JoinHostPort(host, "50052"), true},
		{"another port of it", "[::]:50052", net.JoinHostPort(host, "50051"), false},
		{"another host", "[::]:50052", "[" + other + "]:50052", false},
		{"localhost", "127.0.0.1:50052", "localhost:50052", true},
		{"localhost by IPv6", "[::1]:50052", "LOCALHOST:50052", true},
		{"our 6PN name", "[fdaa:0:1::2]:50052", "fly-local-6pn:50052", true},
		{"another name", "[::]:50052", "app.internal:50052", false},
		{"no port", "[::]:50052", "127.0.0.1", false},
	} {
		at := netip.MustParseAddrPort(tc.own)
		l := &loops{own: []netip.AddrPort{at}, ports: []string{"50052"}, interfaces: hostAddresses}
		if why := l.why(&registry.Instance{Address: tc.address}); (why != "") != tc.loop {
			t.Errorf("%s: listening on %s, %s is a loop: %q, want %v", tc.name, tc.own, tc.address, why, tc.loop)
		}
	}
}

// What is registered in a Machine of a gateway's own group, on the gateway's port, is another gateway; an app beside it is none.
func TestOtherGatewaysOfTheGroup(t *testing.T) {
	l := &loops{
		own: []netip.AddrPort{netip.MustParseAddrPort("[fdaa:0:1::2]:50052")}, ports: []string{"50052"}, app: "shop", group: "gateway",
	}
	in := registry.Instance{Address: "[fdaa:0:2::2]:50052", App: "shop", ProcessGroup: "gateway"}
	if l.why(&in) == "" {
		t.Error("another gateway would get calls")
	}
	for name, change := range map[string]func(*registry.Instance){
		"another port":  func(in *registry.Instance) { in.Address = "[fdaa:0:2::2]:50051" },
		"another group": func(in *registry.Instance) { in.ProcessGroup = "app" },
		"another app":   func(in *registry.Instance) { in.App = "chat" },
		"no group":      func(in *registry.Instance) { in.ProcessGroup = "" },
	} {
		changed := in
		change(&changed)
		if why := l.why(&changed); why != "" {
			t.Errorf("%s: %s", name, why)
		}
	}
	l.group = "" // a sidecar, or a gateway that does not know its group
	if why := l.why(&in); why != "" {
		t.Errorf("without a group: %s", why)
	}
}

// The host's addresses were read from the kernel with the lock held, and all calls waited for it.
func TestNoCallWaitsForTheHostsAddresses(t *testing.T) {
	before, after := netip.MustParseAddr("fdaa:0:1::2"), netip.MustParseAddr("fdaa:0:1::3")
	asked, kernel := make(chan struct{}, 10), make(chan []netip.Addr, 1)
	l := &loops{interfaces: func() []netip.Addr {
		asked <- struct{}{}
		return <-kernel
	}}
	host := func() <-chan []netip.Addr {
		got := make(chan []netip.Addr, 1)
		go func() { got <- l.host() }()
		return got
	}
	want := func(got <-chan []netip.Addr, ip netip.Addr) {
		t.Helper()
		select {
		case addrs := <-got:
			if !slices.Equal(addrs, []netip.Addr{ip}) {
				t.Errorf("%v, want %v", addrs, ip)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a call waits")
		}
	}
	kernel <- []netip.Addr{before}
	want(host(), before)
	<-asked

	l.mu.Lock()
	l.read = l.read.Add(-addrsFor - 1) // so long ago
	l.mu.Unlock()
	slow := host()
	<-asked
	want(host(), before) // beside it
	kernel <- []netip.Addr{after}
	want(slow, after)
	want(host(), after)
	if n := len(asked); n != 0 {
		t.Errorf("they were read %d times more than twice", n)
	}
}

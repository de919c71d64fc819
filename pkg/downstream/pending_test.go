package downstream

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestNetworkOf(t *testing.T) {
	for a, want := range map[string]string{
		"10.0.0.7": "10.0.0.7/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fdab::2:3:4:5": "fdab::/64", "fe80::1%eth0": "fe80::/64", "::1": "::/64",
		// Two Machines of one organization.
		"fdaa:0:18:a7b:7d:f066:b83b:2": "fdaa:0:18:a7b:7d:f066:b83b:0/112", "fdaa:0:18:a7b:9a:1:77aa:2": "fdaa:0:18:a7b:9a:1:77aa:0/112",
	} {
		if got := networkOf(netip.MustParseAddr(a)); got.String() != want {
			t.Errorf("%s: %v, want %s", a, got, want)
		}
	}
	if got := networkOf(netip.Addr{}); got != (netip.Prefix{}) {
		t.Errorf("no address: %v", got)
	}
}

// Whoever has most gives up its oldest one; among equals the oldest one goes. What is said here plainly, by looking through all of
// them, the heap must do as well.
func TestWhoMakesRoom(t *testing.T) {
	const limit = 20
	random := rand.New(rand.NewPCG(1, 2))
	p := newPending(limit)
	var in []*handshake // the oldest first
	count := func() map[netip.Prefix]int {
		m := make(map[netip.Prefix]int)
		for _, h := range in {
			m[h.from]++
		}
		return m
	}
	drop := func(gone *handshake) {
		for i, h := range in {
			if h == gone {
				in = append(in[:i:i], in[i+1:]...)
				return
			}
		}
		t.Fatal("it was not in")
	}
	outs := 0
	for range 20_000 {
		if len(in) > 0 && random.IntN(10) < 3 {
			h := in[random.IntN(len(in))]
			for range 2 { // it may be called again
				if p.leave(h) {
					t.Fatal("it had to go")
				}
			}
			drop(h)
			continue
		}
		// Low numbers are more frequent.
		from := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(1 + random.IntN(30)))}), 32)
		h := &handshake{from: from}
		in = append(in, h)
		var want *handshake
		if len(in) > limit {
			n := count()
			for _, h := range in {
				if want == nil || n[h.from] > n[want.from] {
					want = h
				}
			}
		}
		got := p.enter(h)
		if got != want {
			t.Fatalf("%+v is out, want %+v", got, want)
		}
		if got == nil {
			continue
		}
		if outs++; got == h || !p.leave(got) {
			t.Fatal("the new one is out, or the old one does not know")
		}
		drop(got)
	}
	if outs < 1000 {
		t.Errorf("only %d had to go", outs)
	}
	for _, h := range in {
		p.leave(h)
	}
	if p.n != 0 || len(p.networks) != 0 || len(p.most) != 0 {
		t.Errorf("%d, %d networks, %d in the heap are left", p.n, len(p.networks), len(p.most))
	}
}

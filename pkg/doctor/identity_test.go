package doctor_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// flyEnv is the environment of a Machine, without what is named. Its app is not registered, so nobody dials the address.
func flyEnv(t testing.TB, but ...string) []string {
	t.Helper()
	all := []string{
		"FLY_APP_NAME=battle", "FLY_MACHINE_ID=e286de4f711e86", "FLY_REGION=ams", "FLY_PRIVATE_IP=fdaa:0:1::a", "FLY_PROCESS_GROUP=app",
		"FLY_VM_MEMORY_MB=256", "FLYPROXY_LISTEN=" + redistest.Refusing(t), "FLYPROXY_ADMIN_LISTEN=" + redistest.Refusing(t),
		"REDIS_URL=redis://" + redistest.Refusing(t), "FLYPROXY_REGISTRATION_ENABLED=false",
	}
	return slices.DeleteFunc(all, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(but, name)
	})
}

func TestIdentity(t *testing.T) {
	here := func() ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fdaa:0:1::a"), netip.MustParseAddr("2001:db8::1")}, nil
	}
	for _, tc := range []struct {
		what string
		env  []string
		want []string
		says []string // of the last ID
	}{
		{"a Machine", flyEnv(t), []string{"identity.address", "identity.region", "identity.fly"}, []string{"e286de4f711e86", "battle", "group app", "256 MB"}},
		{"another Machine's address", append(flyEnv(t), "FLY_PRIVATE_IP=fdaa:0:1::b"), []string{"identity.fly", "identity.region", "identity.foreign-address"}, []string{"fdaa:0:1::b"}},
		{"an address outside of 6PN", append(flyEnv(t), "FLY_PRIVATE_IP=2001:db8::1", "FLYPROXY_REGISTRY_ALLOWED_NETWORKS=::/0"),
			[]string{"identity.fly", "identity.region", "identity.address", "identity.not-6pn"}, []string{"fdaa::/16"}},
		{"no address", flyEnv(t, "FLY_PRIVATE_IP"), []string{"identity.fly", "identity.region", "identity.no-address"}, []string{"not set"}},
		{"an address that is none", append(flyEnv(t), "FLY_PRIVATE_IP=here"), []string{"identity.fly", "identity.region", "identity.no-address"}, []string{`"here"`}},
		{"no Machine id", append(flyEnv(t, "FLY_MACHINE_ID"), "FLYPROXY_INSTANCE_ID=m0"), []string{"identity.region", "identity.incomplete"}, []string{"FLY_MACHINE_ID is not set"}},
		{"said to be on Fly", append(flyEnv(t, "FLY_MACHINE_ID", "FLY_APP_NAME"), "FLYPROXY_REGISTRATION_IS_FLY=true", "FLYPROXY_SERVICE=battle"),
			[]string{"identity.address", "identity.region", "identity.id-generated", "identity.incomplete"}, []string{"FLY_APP_NAME and FLY_MACHINE_ID are not set"}},
		{"a region that has gone", append(flyEnv(t), "FLY_REGION=hkg"), []string{"identity.fly", "identity.address", "identity.region-unknown"}, []string{"hkg"}},
		{"no region", flyEnv(t, "FLY_REGION"), []string{"identity.fly", "identity.address", "identity.no-region"}, nil},
	} {
		t.Run(tc.what, func(t *testing.T) {
			h := newHost(t)
			h.env = tc.env
			h.o.Addresses, h.o.Resolver = here, resolver(t, map[string]string{})
			r := h.examine(t)
			expect(t, r, "identity", tc.want...)
			says(t, r, tc.want[len(tc.want)-1], tc.says...)
		})
	}
}

// On Fly, checks and metrics come from outside of the Machine.
func TestAdminListenerThatFlyCannotReach(t *testing.T) {
	h := newHost(t)
	h.env, h.o.Resolver = flyEnv(t), resolver(t, map[string]string{})
	r := h.examine(t)
	expect(t, r, "listeners", "listeners.free", "listeners.admin-local")
	says(t, r, "listeners.admin-local", "[::]:9052")
}

func TestNames(t *testing.T) {
	full := map[string]string{"battle.internal.": "fdaa:0:1::b", "e286de4f711e86.vm.battle.internal.": "fdaa:0:1::a", "fly-local-6pn.": "fdaa:0:1::a", "redis.example.": "fdaa:0:1::c"}
	moved := map[string]string{"battle.internal.": "fdaa:0:1::b", "e286de4f711e86.vm.battle.internal.": "fdaa:0:1::f", "fly-local-6pn.": "fdaa:0:1::a", "redis.example.": "fdaa:0:1::c"}
	for _, tc := range []struct {
		what  string
		names map[string]string
		want  []string
		says  []string
	}{
		{"all there", full, []string{"dns.resolved"}, []string{"fdaa:0:1::a"}},
		{"none there", map[string]string{}, []string{"dns.no-such-name"}, []string{"fly-local-6pn", "/etc/hosts"}},
		{"the Machine has moved", moved, []string{"dns.resolved", "dns.other-address"}, []string{"fdaa:0:1::f", "FLY_PRIVATE_IP"}},
		{"no answer", nil, []string{"dns.no-answer"}, []string{"fdaa::3"}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			h := newHost(t)
			h.env, h.o.Resolver = append(flyEnv(t), "REDIS_URL=redis://redis.example"), resolver(t, tc.names)
			if tc.names == nil {
				h.o.Timeout = 2 * time.Second
			}
			r := h.examine(t)
			expect(t, r, "dns", tc.want...)
			says(t, r, tc.want[len(tc.want)-1], tc.says...)
			n := 0
			for _, f := range r.Findings {
				if f.Check == "dns" {
					n++
				}
			}
			if n != 4 {
				t.Errorf("%d names were looked up, want 4\n%s", n, show(t, r))
			}
		})
	}
}

// resolver asks a DNS server of the test's own, which knows the AAAA records given; one without a map never answers.
func resolver(t testing.TB, names map[string]string) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- answer(server, names) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// answer serves DNS until the server is closed.
func answer(server net.PacketConn, names map[string]string) error {
	buf := make([]byte, 4096)
	for {
		n, from, err := server.ReadFrom(buf)
		if err != nil {
			return err
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil {
			return err
		}
		if names == nil {
			continue
		}
		q := m.Questions[0]
		reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, RCode: dnsmessage.RCodeNameError}, Questions: m.Questions}
		if ip, ok := names[q.Name.String()]; ok {
			reply.RCode = dnsmessage.RCodeSuccess
			if q.Type == dnsmessage.TypeAAAA {
				reply.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(ip).As16()},
				}}
			}
		}
		out, err := reply.Pack()
		if err != nil {
			return err
		}
		if _, err := server.WriteTo(out, from); err != nil {
			return err
		}
	}
}

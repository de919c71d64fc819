package e2e_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/test/internal/netns"
)

// within runs f in the machine's network namespace: sockets that it opens stay there.
func (m *machine) within(f func() error) error { return netns.Within(m.ns, f) }

// dial connects to an address in the machine.
func (m *machine) dial(_ context.Context, address string) (net.Conn, error) {
	return netns.Dial(m.ns, address, patience)
}

// metrics reads those of the machine's sidecar.
func (m *machine) metrics() string {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return m.dial(ctx, address)
	}}
	res, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://127.0.0.1:9052/metrics")
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// routed are machines that reach each other through a router in a namespace of its own.
type routed struct {
	router *machine
	all    []*machine
}

func routedMachines(t testing.TB, n int) *routed {
	t.Helper()
	need(t, "root with iproute2", netns.Possible())
	router, machines := netns.Routed(t, n)
	r := &routed{router: &machine{t: t, ns: router}}
	for _, m := range machines {
		r.all = append(r.all, &machine{t: t, ns: m.NS, addr: m.Addr})
	}
	return r
}

// cut has everything vanish, without a word, that is under way between a machine and the first: what is sent to it in the router, and
// what it sends in itself.
func (r *routed) cut(m *machine) { r.blackholes("add", m) }

// mend undoes it.
func (r *routed) mend(m *machine) { r.blackholes("del", m) }

func (r *routed) blackholes(do string, m *machine) {
	ip(m.t, "-n", r.router.ns, "route", do, "blackhole", m.addr+"/128")
	ip(m.t, "-n", m.ns, "route", do, "blackhole", r.all[0].addr+"/128")
}

// sidecarAndClient starts a sidecar in the machine that knows these peers, and gives a client of it.
func (m *machine) sidecarAndClient(entries ...string) (*process, *grpc.ClientConn) {
	m.t.Helper()
	p := m.start("sidecar", append(static(entries...), "FLYPROXY_SERVICE=battle", "FLYPROXY_INSTANCE_ID=m0", "FLYPROXY_REGION=ams"),
		flyproxy, "serve")
	cc, err := grpc.NewClient("passthrough:///127.0.0.1:50052", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(m.dial))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cc.Close() })
	return p, cc
}

// Machines vanish without a word: no FIN and no RST comes, and no ICMP. One does so under load, one while nothing is under way, one
// comes back before upstream.dead_after.
func TestLostMachine(t *testing.T) {
	t.Parallel()
	app := filepath.Join(filepath.Dir(flyproxy), "app")
	r := routedMachines(t, 5)
	here, well := r.all[0], r.all[1]
	busy, idle, back := &victim{id: "busy"}, &victim{id: "idle"}, &victim{id: "back"}
	port := func(m *machine) string { return "[" + m.addr + "]:50051" }
	well.start("app well", nil, app, "serve", port(well), "well", "ams")
	var entries []string
	at := make(map[*victim]*machine)
	for i, v := range []*victim{busy, idle, back} {
		m := r.all[2+i]
		at[v] = m
		m.start("app "+v.id, nil, app, "serve", port(m), v.id, "ams")
		entries = append(entries, v.entries(port(m), port(well)))
	}
	_, cc := here.sidecarAndClient(entries...)
	for _, v := range []*victim{idle, busy, back} {
		v.connect(t, cc)
	}
	for _, v := range []*victim{busy, back} {
		v.talk(t)
		v.load(t)
		began := time.Now()
		eventually(t, v.id+" gets calls", func() bool { return v.answered(began) > 20 })
	}

	since := time.Now()
	for _, v := range []*victim{busy, back, idle} {
		r.cut(at[v])
	}
	// A call that was sent into the void ends by its deadline.
	deadlined := make(chan oneCall, 1)
	go func() { deadlined <- busy.one(busy.id, time.Second) }()
	eventually(t, "all three count as silent", func() bool { return silentPeers(here.metrics()) == 3 })
	t.Logf("found silent after %v, the idle one too", time.Since(since).Round(time.Millisecond))
	if found := time.Since(since); found > avoidedWithin+lateness {
		t.Errorf("found silent after %v", found)
	}
	for range 20 {
		if c := idle.one("", patience); c.err != nil || c.by != "well" || c.took > lateness {
			t.Errorf("idle: a call ended after %v with %v from %q", c.took, c.err, c.by)
		}
	}
	r.mend(at[back])
	back.back(t, time.Now())
	if c := <-deadlined; status.Code(c.err).String() != "DeadlineExceeded" || c.took > time.Second+lateness {
		t.Errorf("a call with a deadline of a second ended after %v with %v", c.took, c.err)
	}
	busy.lost(t, since)
	r.mend(at[busy])
	eventually(t, "the one that was lost is used again", func() bool { return busy.one("", patience).by == busy.id })
}

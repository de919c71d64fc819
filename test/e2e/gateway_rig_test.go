package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
)

// gatewayRig is four Machines: two with an app and a sidecar, of which the first has the Redis too, one for gateways, and one for clients.
type gatewayRig struct {
	t              *testing.T
	a, b, gw, from *machine
	app            string
	env            []string // of every flyproxy
}

func newGatewayRig(t *testing.T, engine string) *gatewayRig {
	t.Helper()
	_, redisErr := exec.LookPath("redis-server")
	_, cliErr := exec.LookPath("redis-cli")
	need(t, "redis-server with redis-cli", redisErr == nil && cliErr == nil)
	all := routedMachines(t, 4)
	r := &gatewayRig{
		t: t, a: all.all[0], b: all.all[1], gw: all.all[2], from: all.all[3], app: filepath.Join(filepath.Dir(flyproxy), "app"),
		env: []string{engine, "FLYPROXY_REGISTRATION_INTERVAL=300ms", "FLYPROXY_REGISTRATION_LEASE=3s", "FLYPROXY_DRAIN_TIMEOUT=20s"},
	}
	// The clients' Machine has an address outside of 6PN too.
	foreign := func(m *machine, addr string) { ip(t, "-n", m.ns, "addr", "add", addr, "dev", r.from.ns, "nodad") }
	foreign(r.from, outside+"/64")
	foreign(all.router, strings.TrimSuffix(outside, "2")+"1/64")
	// On Fly a gateway wants to be told that a name is unknown, and there is no resolver here: names are in files alone.
	r.etc("nsswitch.conf", "hosts: files\n")
	r.a.start("redis", nil, "redis-server", "--bind", r.a.addr, "--port", "6379", "--protected-mode", "no", "--save", "")
	for id, m := range map[string]*machine{"machine-a": r.a, "machine-b": r.b} {
		m.start("app "+id, nil, r.app, "serve", "[::]:50051", id, "ams")
		m.start("sidecar "+id, append(m.fly(id, r.a.addr), append(r.env, "FLY_PROCESS_GROUP=app")...), flyproxy, "serve")
	}
	eventually(t, "both apps are registered", func() bool { return len(r.records()) == 2 })
	return r
}

// outside is an address that no 6PN has.
const outside = "fd00:0:4::2"

// hosts gives the gateway's Machine the name that Fly gives every Machine for itself.
func (r *gatewayRig) hosts() {
	r.t.Helper()
	r.etc("hosts", "127.0.0.1 localhost\n"+r.gw.addr+" fly-local-6pn\n")
}

// etc gives the gateway's Machine a file of its own in /etc, as ip-netns(8) says. It is gone with the test.
func (r *gatewayRig) etc(name, text string) {
	r.t.Helper()
	dir := filepath.Join("/etc/netns", r.gw.ns)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = os.RemoveAll(dir)
		_ = os.Remove(filepath.Dir(dir)) // if it was the last one
	})
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// start starts a gateway and waits until it is ready.
func (r *gatewayRig) start(env ...string) *process {
	r.t.Helper()
	env = append(append(r.gw.fly("machine-gw", r.a.addr), r.env...), append(env, "FLY_PROCESS_GROUP=gateway", "FLYPROXY_MODE=sidecar")...) // which the flag beats
	p := r.gw.start("gateway", env, flyproxy, "serve", "--mode", "gateway")
	eventually(r.t, "the gateway is ready and knows both apps", func() bool {
		return strings.Contains(r.gw.metrics(), `flyproxy_instances{service="battle",state="serving"} 2`)
	})
	return p
}

// stop ends a gateway in order.
func (r *gatewayRig) stop(p *process) {
	r.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 {
		r.t.Errorf("the gateway ended with %d", code)
	}
}

func (r *gatewayRig) address() string { return "[" + r.gw.addr + "]:50052" }

// client is one on the clients' Machine. A nil configuration means plain text.
func (r *gatewayRig) client(cfg *tls.Config) *grpc.ClientConn { return r.clientWith(cfg) }

// waitingClient is a client in plain text whose calls wait while there is no gateway.
func (r *gatewayRig) waitingClient() *grpc.ClientConn {
	return r.clientWith(nil, grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
}

func (r *gatewayRig) clientWith(cfg *tls.Config, opts ...grpc.DialOption) *grpc.ClientConn {
	r.t.Helper()
	creds := insecure.NewCredentials()
	if cfg != nil {
		creds = credentials.NewTLS(cfg)
	}
	redial := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond}
	cc, err := grpc.NewClient("passthrough:///"+r.address(), append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithContextDialer(r.from.dial), grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial, MinConnectTimeout: patience}),
	}, opts...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// reachesBoth checks that calls through the gateway come to both apps, and none fails.
func (r *gatewayRig) reachesBoth(cc *grpc.ClientConn, n int) {
	r.t.Helper()
	if by := r.calls(cc, n); by["machine-a"] == 0 || by["machine-b"] == 0 || len(by) != 2 {
		r.t.Errorf("%d calls went to %v", n, by)
	}
}

// calls makes n calls, of which none may fail, and counts who answered.
func (r *gatewayRig) calls(cc *grpc.ClientConn, n int) map[string]int {
	r.t.Helper()
	by := make(map[string]int)
	for range n {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		reply, err := pb.NewGreeterClient(cc).Hello(ctx, &pb.HelloRequest{})
		cancel()
		if err != nil {
			r.t.Fatal(err)
		}
		by[reply.GetInstance()]++
	}
	return by
}

// connect connects to the gateway from an address of the clients' Machine, and gives what reading it says.
func (r *gatewayRig) connect(from string) (err error) {
	inside := r.from.within(func() error {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		nc, dialErr := d.Dial("tcp", r.address())
		if err = dialErr; err != nil {
			return nil
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, err = nc.Read(make([]byte, 1))
		return nil
	})
	if inside != nil {
		r.t.Fatal(inside)
	}
	return err
}

// records are the fields of the registry's hash: service/id.
func (r *gatewayRig) records() (all []string) {
	out, err := r.a.run("redis-cli", "-h", r.a.addr, "--raw", "hkeys", "flyproxy:v1:{default}:instances")
	if err != nil {
		return nil
	}
	return strings.Fields(out)
}

// beats are those that the gateway says it has sent.
func (r *gatewayRig) beats() (n int) {
	for _, m := range operation.FindAllStringSubmatch(r.gw.metrics(), -1) {
		if m[1] == "beat" {
			n = number(r.t, m[2])
		}
	}
	return n
}

// monitor is what Redis is asked from a Machine.
type monitor struct {
	*process
	from *regexp.Regexp
}

func (r *gatewayRig) monitor(m *machine) *monitor {
	r.t.Helper()
	p := r.a.start("monitor", nil, "redis-cli", "-h", r.a.addr, "monitor")
	eventually(r.t, "the monitor sees commands", func() bool { return strings.Contains(strings.ToLower(p.output()), "evalsha") })
	return &monitor{p, regexp.MustCompile(fmt.Sprintf(`(?mi)^\d+\.\d+ \[\d+ \[%s\]:\d+\] "(\w+)" "?([^" ]*)`, regexp.QuoteMeta(m.addr)))}
}

// count is how many commands came.
func (m *monitor) count() int { return len(m.from.FindAllString(m.output(), -1)) }

// commands counts what came, by command and first argument.
func (m *monitor) commands() map[string]int {
	all := make(map[string]int)
	for _, c := range m.from.FindAllStringSubmatch(m.output(), -1) {
		all[strings.ToLower(c[1]+" "+c[2])]++
	}
	return all
}

// total adds up the series of a metric.
func total(text, name string) (sum float64) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+"{"); ok {
			var n float64
			_, _ = fmt.Sscan(rest[strings.LastIndex(rest, "}")+1:], &n)
			sum += n
		}
	}
	return sum
}

// Package demo is `flyproxy demo`: the whole of flyproxy on one machine, on real parts. An embedded Redis, six instances of a
// small gRPC app in three regions, a sidecar beside each; one of the sidecars accepts on localhost:50052, where the demo calls
// once a second and shows who answered, while it stops an instance and starts it again.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flyproxy/flyproxy/pkg/config"
	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
)

// Options are the demo's. The ports are those that it would like to have; it takes others when they are in use, and says so.
type Options struct {
	// For is how long it runs; 0 means until ctx ends.
	For time.Duration
	Out io.Writer
	// Logger gets what the six sidecars log.
	Logger  *slog.Logger
	Version string
	// Engine is the sidecars' data plane; empty is flyproxy's default.
	Engine string
	// Port is where the first sidecar accepts, AdminPort its admin listener, RedisPort the embedded Redis.
	Port, AdminPort, RedisPort int
}

// Default ports of the demo: those of flyproxy itself.
const (
	DefaultPort      = 50052
	DefaultAdminPort = 9052
	DefaultRedisPort = 56379
)

const service = "greeter"

// members are the demo's instances. The first one's sidecar is the one that is called.
var members = []struct{ id, region string }{
	{"ams-1", "ams"}, {"ams-2", "ams"}, {"fra-1", "fra"}, {"fra-2", "fra"}, {"iad-1", "iad"}, {"iad-2", "iad"},
}

// ErrCallsFailed says that the demo ended as it should, but not every call did.
var ErrCallsFailed = errors.New("calls failed")

// Run runs the demo until ctx ends or its time is over. Its error wraps [ErrCallsFailed] when a call failed.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.start(ctx); err != nil {
		return err
	}
	d.explain()
	return d.play(ctx)
}

type demo struct {
	Options
	nodes []*node
	conn  *grpc.ClientConn
}

// close stops the instances, the one that is called last.
func (d *demo) close() error {
	var errs []error
	if d.conn != nil {
		errs = append(errs, d.conn.Close())
	}
	for i := len(d.nodes) - 1; i >= 0; i-- {
		errs = append(errs, d.nodes[i].stop())
	}
	return errors.Join(errs...)
}

func (d *demo) start(ctx context.Context) error {
	d.Port = d.freePort("calls (localhost:%d)", d.Port, "127.0.0.1", "::1")
	d.AdminPort = d.freePort("the admin listener (127.0.0.1:%d)", d.AdminPort, "127.0.0.1")
	d.RedisPort = d.freePort("the embedded Redis (127.0.0.1:%d)", d.RedisPort, "127.0.0.1")
	for i, m := range members {
		n := &node{demo: d, id: m.id, region: m.region, listen: "127.0.0.1:0", admin: "127.0.0.1:0"}
		if i == 0 {
			n.listen, n.admin = fmt.Sprintf("localhost:%d", d.Port), fmt.Sprintf("127.0.0.1:%d", d.AdminPort)
		}
		d.nodes = append(d.nodes, n)
		if err := n.start(); err != nil {
			return fmt.Errorf("start %s: %w", m.id, err)
		}
	}
	cc, err := grpc.NewClient(fmt.Sprintf("localhost:%d", d.Port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	d.conn = cc
	return d.awaitAll(ctx)
}

// freePort gives the port that is wanted if it is free on all the hosts, else another one, and says which.
func (d *demo) freePort(what string, wanted int, hosts ...string) int {
	if free(wanted, hosts) {
		return wanted
	}
	for range 100 {
		lis, err := net.Listen("tcp", net.JoinHostPort(hosts[0], "0"))
		if err != nil {
			break
		}
		port := lis.Addr().(*net.TCPAddr).Port
		_ = lis.Close()
		if free(port, hosts) {
			fmt.Fprintf(d.Out, "Port %d is taken: using %d for "+what+".\n", wanted, port, port)
			return port
		}
	}
	return wanted // the sidecar will say what is wrong with it
}

func free(port int, hosts []string) bool {
	for _, host := range hosts {
		lis, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			if host == "::1" { // a host without IPv6 loopback
				if probe, probeErr := net.Listen("tcp", "[::1]:0"); probeErr != nil {
					continue
				} else {
					_ = probe.Close()
				}
			}
			return false
		}
		_ = lis.Close()
	}
	return true
}

// awaitAll waits until the first sidecar sees every instance.
func (d *demo) awaitAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for d.nodes[0].sidecar.Known(service) < len(d.nodes) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("only %d of %d instances registered: %w", d.nodes[0].sidecar.Known(service), len(d.nodes), ctx.Err())
		}
	}
	return nil
}

func (d *demo) explain() {
	fmt.Fprintf(d.Out, "\n%d instances of one app in 3 regions, a sidecar beside each, one embedded Redis (127.0.0.1:%d).\n\n",
		len(d.nodes), d.RedisPort)
	fmt.Fprintf(d.Out, "  %-8s %-7s %-18s %s\n", "INSTANCE", "REGION", "APP", "ITS SIDECAR")
	for i, n := range d.nodes {
		where := n.sidecar.Addresses()[0]
		if i == 0 {
			where = fmt.Sprintf("localhost:%d   <- the demo calls here", d.Port)
		}
		fmt.Fprintf(d.Out, "  %-8s %-7s %-18s %s\n", n.id, n.region, n.appAddress, where)
	}
	fmt.Fprintf(d.Out, `
Call it from another terminal, as your app would:
  grpcurl -plaintext localhost:%[1]d list
  grpcurl -plaintext -d '{"name": "you"}' localhost:%[1]d flyproxy.demo.v1.Greeter/Hello
  grpcurl -plaintext -H 'fly-force-instance-id: iad-2' localhost:%[1]d flyproxy.demo.v1.Greeter/Hello
  flyproxy status --addr 127.0.0.1:%[2]d

`, d.Port, d.AdminPort)
}

// play calls once a second. A third of the way it stops the neighbour, and at two thirds it starts it again.
func (d *demo) play(ctx context.Context) error {
	length := d.For
	if length <= 0 {
		length = 30 * time.Second // the length of a round; without --for, rounds repeat
	}
	tally := newTally()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	began := time.Now()
	stops, starts := length/3, length*2/3
	neighbour := d.nodes[1]
	for {
		since := time.Since(began)
		switch {
		case d.For > 0 && since >= d.For:
			return d.summary(tally)
		case since >= starts && !neighbour.running():
			d.say(since, "-- starting %s", neighbour.id)
			if err := neighbour.start(); err != nil {
				return fmt.Errorf("start %s: %w", neighbour.id, err)
			}
			starts += length
		case since >= stops && since < starts && neighbour.running():
			d.say(since, "-- stopping %s: it deregisters, and calls move to the nearest region", neighbour.id)
			if err := neighbour.stop(); err != nil {
				return fmt.Errorf("stop %s: %w", neighbour.id, err)
			}
			stops += length
		}
		d.call(ctx, time.Since(began), tally)
		select {
		case <-ctx.Done():
			return d.summary(tally)
		case <-tick.C:
		}
	}
}

func (d *demo) say(at time.Duration, format string, args ...any) {
	fmt.Fprintf(d.Out, "%5.1f s  %s\n", at.Seconds(), fmt.Sprintf(format, args...))
}

// call makes one call through the first sidecar, exactly as an app does.
func (d *demo) call(ctx context.Context, at time.Duration, t *tally) {
	// A call that was begun is finished, also when the demo is told to end meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	began := time.Now()
	reply, err := pb.NewGreeterClient(d.conn).Hello(ctx, &pb.HelloRequest{Name: "you"})
	took := time.Since(began)
	t.add(reply.GetInstance(), took, err)
	if err != nil {
		d.say(at, "call %-4d failed: %v", t.calls, err)
		return
	}
	d.say(at, "call %-4d answered by %s in %s   %.1f ms", t.calls, reply.GetInstance(), reply.GetRegion(), float64(took.Microseconds())/1000)
}

// node is one instance: the app and the sidecar beside it.
type node struct {
	demo          *demo
	id, region    string
	listen, admin string
	appAddress    string

	app     *App
	served  chan error
	sidecar *sidecar.Sidecar
	cancel  context.CancelFunc
	ended   chan error
}

func (n *node) running() bool { return n.cancel != nil }

func (n *node) start() error {
	address := n.appAddress
	if address == "" {
		address = "127.0.0.1:0"
	}
	lis, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	n.appAddress = lis.Addr().String()
	n.app, n.served = NewApp(n.id, n.region), make(chan error, 1)
	go n.serveApp(lis)

	_, port, _ := net.SplitHostPort(n.appAddress)
	cfg, err := config.Load(config.Options{
		// The demo is the same whatever else stands in this folder and this environment.
		ReadFile: func(name string) ([]byte, error) { return nil, fs.ErrNotExist },
		Environ: []string{
			"FLYPROXY_ENGINE=" + n.demo.Engine, "FLYPROXY_SERVICE=" + service, "FLYPROXY_INSTANCE_ID=" + n.id, "FLYPROXY_REGION=" + n.region,
			"FLYPROXY_LISTEN=" + n.listen, "FLYPROXY_ADMIN_LISTEN=" + n.admin, "GRPC_PORT=" + port,
			"FLYPROXY_REGISTRY_STORE=embedded", "FLYPROXY_REGISTRY_NAMESPACE=demo",
			fmt.Sprintf("FLYPROXY_REGISTRY_EMBEDDED_ADDRESS=127.0.0.1:%d", n.demo.RedisPort),
		},
	})
	if err == nil {
		n.sidecar, err = sidecar.New(cfg, sidecar.Options{Logger: n.demo.Logger.With("demo", n.id), Version: n.demo.Version})
	}
	if err != nil {
		n.app.Stop()
		return errors.Join(err, <-n.served)
	}
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	n.ended = make(chan error, 1)
	go n.runSidecar(ctx)
	return nil
}

func (n *node) serveApp(lis net.Listener) { n.served <- n.app.Serve(lis) }

func (n *node) runSidecar(ctx context.Context) { n.ended <- n.sidecar.Run(ctx) }

// stop does what the end of a Machine does: the sidecar deregisters and drains, then the app ends its calls.
func (n *node) stop() error {
	if !n.running() {
		return nil
	}
	n.cancel()
	n.cancel = nil
	err := <-n.ended
	n.app.Drain()
	return errors.Join(err, <-n.served)
}

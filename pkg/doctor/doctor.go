// Package doctor walks everything that can be wrong with a flyproxy on this Machine, and says what to do: configuration, identity,
// ports, the apps, Redis, our own record, the peers, names.
//
// It only looks. Nothing is registered, no key of the registry is changed, and no call of a service is made but those of health,
// reflection and flyproxy's own list of instances. Each check goes on whatever the others find; what cannot be checked because
// something else is not as it should be is said to be so. All of it together is bounded in time.
package doctor

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// DefaultTimeout bounds an examination.
const DefaultTimeout = 10 * time.Second

// Options are what an examination has of the world around it. Zero values are those of this host.
type Options struct {
	// Config is where the configuration is read from. Without a Mode, that of the flyproxy that runs is taken.
	Config config.Options
	// Version is that of this program.
	Version string
	// Timeout bounds all of it; 0 is DefaultTimeout.
	Timeout time.Duration
	// Now is the local clock; nil is [time.Now].
	Now func() time.Time
	// Resolver is asked for names; nil is [net.DefaultResolver]. Connections are made by name without it.
	Resolver *net.Resolver
	// Addresses are those of this host's interfaces; nil asks the system.
	Addresses func() ([]netip.Addr, error)
}

// Checks are the groups of checks, in their order.
func Checks() []string {
	return []string{"configuration", "identity", "sidecar", "listeners", "app", "redis", "registry", "record", "peers", "dns"}
}

// Run examines. It takes as long as Options.Timeout at most, and returns when everything that it began has ended.
func Run(ctx context.Context, o Options) Report {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Addresses == nil {
		o.Addresses = interfaceAddresses
	}
	began := time.Now()
	report := Report{Version: o.Version, StartedAt: o.Now().UTC().Truncate(time.Millisecond)}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()

	e := &examination{o: o, asked: make(chan struct{}), found: make(map[string]*findings)}
	for _, name := range Checks() {
		e.found[name] = &findings{check: name}
	}
	report.ConfigurationUsable = e.configuration(ctx)
	e.walk(ctx)
	for _, name := range Checks() {
		report.Findings = append(report.Findings, e.found[name].all...)
	}
	if late(ctx) {
		cut := findings{check: "configuration"}
		cut.add(outOfTime, "--timeout", "the examination was cut off after "+o.Timeout.String()+": what is said to be late or not checked may be fine",
			"give it more time with --timeout")
		report.Findings = append(cut.all, report.Findings...)
	}
	for i := range report.Findings {
		report.Worst = max(report.Worst, report.Findings[i].Level)
	}
	report.TookMS = time.Since(began).Milliseconds()
	return report
}

// examination is one run. Each check writes its own findings only.
type examination struct {
	o     Options
	cfg   *config.Config // nil when nothing could be read
	found map[string]*findings

	// asked is closed once the sidecar was asked for its status; status and answered are not written after that.
	asked    chan struct{}
	status   admin.Status
	answered bool // status is a flyproxy's

	// noRedis says that Redis answers no command, and view is what is registered. Both are set before the checks that need them.
	noRedis bool
	view    *registry.Snapshot
}

// walk runs the checks: those that do not need each other at the same time, the others where what they need is known.
func (e *examination) walk(ctx context.Context) {
	if e.cfg == nil {
		for _, name := range Checks()[1:] {
			e.found[name].skip("", "the configuration cannot be read")
		}
		close(e.asked)
		return
	}
	e.identity(e.found["identity"])
	var all sync.WaitGroup
	all.Go(func() {
		e.sidecar(ctx, e.found["sidecar"])
		close(e.asked)
		e.listeners(ctx, e.found["listeners"])
	})
	all.Go(func() { e.apps(ctx, e.found["app"]) })
	all.Go(func() { e.dns(ctx, e.found["dns"]) })
	all.Go(func() {
		e.redis(ctx, e.found["redis"])
		e.registry(ctx, e.found["registry"])
		var last sync.WaitGroup
		last.Go(func() { e.record(ctx, e.found["record"]) })
		last.Go(func() { e.peers(ctx, e.found["peers"]) })
		last.Wait()
	})
	all.Wait()
}

// sidecarStatus waits until the sidecar was asked; ok is false where none answers.
func (e *examination) sidecarStatus(ctx context.Context) (st *admin.Status, ok bool) {
	select {
	case <-e.asked:
		return &e.status, e.answered
	case <-ctx.Done():
		return nil, false
	}
}

// gateway tells whether this configuration is one of a gateway, which has no app and registers nothing.
func (e *examination) gateway() bool { return e.cfg.Mode == config.ModeGateway }

func interfaceAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				all = append(all, ip.Unmap())
			}
		}
	}
	return all, nil
}

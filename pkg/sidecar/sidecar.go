// Package sidecar puts the rooms together: it translates the configuration into what each of them needs, wires them to one
// another, and runs their common life. It is the only place where they meet.
//
// New binds, Run serves until its context ends, and then everything ends in order: the apps deregister, so that no new calls come;
// open calls drain; then the control plane, the listeners and the registry close.
package sidecar

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/api"
	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/discovery"
	"github.com/flyproxy/flyproxy/pkg/downstream"
	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/fly"
	"github.com/flyproxy/flyproxy/pkg/registrar"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/routing"
	"github.com/flyproxy/flyproxy/pkg/telemetry"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
)

// Options are what a sidecar has of the process around it.
type Options struct {
	Logger *slog.Logger
	// Version is shown in the status and in metrics.
	Version string
}

// Sidecar is one sidecar. New makes it, Run runs it once.
type Sidecar struct {
	cfg         *config.Config
	log         *slog.Logger
	version     string
	incarnation string
	started     time.Time

	metrics    *telemetry.Metrics
	accessLog  *telemetry.AccessLog
	machine    *telemetry.MachineSampler
	store      registry.Store
	rejected   func() map[string]uint64 // nil where the store refuses nothing
	discovery  *discovery.Discovery
	router     *routing.Router
	api        *api.Server
	tls        func() *tls.Config // nil: peers are spoken to in plain text
	engine     engine.Engine
	beater     *registrar.Beater
	registrars []*registrar.Registrar
	admin      *admin.Server
	control    *admin.Control // nil where there is no control socket
	listeners  []net.Listener
	gate       *downstream.Gate // nil in a sidecar
	serverTLS  *tlsfiles.Server // nil where clients speak plain text
	loops      *loops
	adminAddr  string

	accepting chan struct{} // closed once calls are accepted

	serving  atomic.Bool
	draining atomic.Bool
	teardown teardown
}

// New binds the listeners and makes everything, or nothing: on an error what was acquired is given back.
func New(cfg *config.Config, o Options) (*Sidecar, error) {
	s := &Sidecar{
		cfg: cfg, log: o.Logger, version: o.Version, incarnation: registrar.NewIncarnation(), started: time.Now(),
		machine: telemetry.NewMachineSampler(), accepting: make(chan struct{}),
	}
	s.teardown.log = s.log
	s.metrics = telemetry.NewMetrics(telemetry.MetricsConfig{
		Version: o.Version, Mode: cfg.Mode, RegistryErrorKind: registryErrorKind, Logger: s.log,
	})
	s.accessLog = telemetry.NewAccessLog(telemetry.AccessLogConfig{
		Slow: cfg.AccessLog.Slow, Failed: cfg.AccessLog.Failed, PerSecond: cfg.AccessLog.PerSecond, Logger: s.log,
	})
	for _, make := range []func() error{
		s.bind, s.guard, s.makeLoops, s.openRegistry, s.makeRouter, s.makeDiscovery, s.makeTLS, s.makeEngine, s.makeBeater,
		s.addRegistrars, s.makeAdmin, s.makeControl,
	} {
		if err := make(); err != nil {
			return nil, errors.Join(err, s.teardown.run())
		}
	}
	return s, nil
}

// bind comes first: a port that is taken should be said before anything else is begun.
func (s *Sidecar) bind() error {
	addresses, err := listenAddresses(s.cfg, net.DefaultResolver, s.log)
	if err != nil {
		return err
	}
	listeners, err := listen("listen", "FLYPROXY_LISTEN", addresses, s.cfg.SocketFileMode(), s.log)
	if err != nil {
		return err
	}
	s.listeners = listeners
	s.teardown.add("listeners", func() error { closeAll(listeners); return nil })
	return nil
}

func (s *Sidecar) makeRouter() error {
	routes := make([]routing.Route, 0, len(s.cfg.Routing.Routes))
	for _, r := range s.cfg.Routing.Routes {
		routes = append(routes, routing.Route{Prefix: r.Prefix, Service: r.Service})
	}
	region := s.cfg.Region
	router, err := routing.New(routing.Config{
		Service: s.cfg.Service, Self: s.self(), Region: region,
		Distance: func(other string) (float64, bool) { return fly.Distance(region, other) },
		Policy:   s.cfg.Routing.Policy, PreferRegion: s.cfg.Routing.PreferRegion,
		SelfMode: routing.SelfMode(s.cfg.Routing.Self), Routes: routes,
		Excluded:    s.loops.why,
		Headers:     routing.Headers{Service: fly.HeaderService, ForceInstance: fly.HeaderForceInstance},
		BackoffBase: s.cfg.Routing.Backoff.Base, BackoffMax: s.cfg.Routing.Backoff.Max,
		Logger: s.log,
	})
	s.router = router
	return err
}

func (s *Sidecar) makeDiscovery() error {
	s.discovery = discovery.New(discovery.Config{Store: s.store, Lease: s.cfg.Registration.Lease, Logger: s.log})
	s.discovery.OnChange(s.router.Update)
	return nil
}

// allowedNetworks are where a peer may be once its name is resolved. Static instances are the user's own word.
func (s *Sidecar) allowedNetworks() []netip.Prefix {
	if s.cfg.Registry.Store == config.StoreStatic {
		return nil
	}
	return s.cfg.Registry.Networks()
}

func (s *Sidecar) makeBeater() (err error) {
	s.beater, err = registrar.NewBeater(registrar.BeaterConfig{
		Store: s.store, Interval: s.cfg.Registration.Interval, Lease: s.cfg.Registration.Lease, Logger: s.log,
		Load: s.load, Wanted: s.router.Wanted,
		OnReply: func(reply registry.BeatReply, _ time.Duration) {
			s.discovery.Observe(reply)
			s.router.Report(reply.Loads)
		},
	})
	return err
}

func (s *Sidecar) makeAdmin() error {
	listeners, err := listen("admin.listen", "FLYPROXY_ADMIN_LISTEN", []string{s.cfg.Admin.Listen}, 0, s.log)
	if err != nil {
		return err
	}
	s.adminAddr = listeners[0].Addr().String()
	s.admin, err = admin.New(admin.Config{
		Listener: listeners[0], Status: s.Status, Ready: s.Ready, Metrics: s.metrics.Handler(), Logger: s.log,
	})
	if err != nil {
		closeAll(listeners)
		return err
	}
	s.teardown.add("admin", s.closeAdmin)
	return s.metrics.Read(s.sources())
}

// closeAdmin can be called twice. A scraper that is cut off is no failure of ours.
func (s *Sidecar) closeAdmin() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.admin.Close(ctx); err != nil {
		s.log.Debug("admin listener closed", "error", err)
	}
	return nil
}

// Addresses are where calls are accepted: host:port, or unix:// and a path. A gRPC client dials either as it is.
func (s *Sidecar) Addresses() []string {
	out := make([]string, 0, len(s.listeners))
	for _, lis := range s.listeners {
		address := lis.Addr().String()
		if lis.Addr().Network() == "unix" {
			address = "unix://" + address
		}
		out = append(out, address)
	}
	return out
}

// AdminAddress is where the admin listener is.
func (s *Sidecar) AdminAddress() string { return s.adminAddr }

// Known is how many instances of a service are known and not merely held.
func (s *Sidecar) Known(service string) int {
	n := 0
	for _, e := range s.discovery.View().Entries {
		if e.Instance.Service == service && !e.Held {
			n++
		}
	}
	return n
}

// Run serves until ctx ends or a part fails, then ends everything in order and returns what failed. It can be called once.
func (s *Sidecar) Run(ctx context.Context) error {
	// The control plane outlives ctx: deregistering and draining need it.
	running := newTasks(context.WithoutCancel(ctx))
	running.start("discovery", s.discovery.Run)
	running.start("heartbeat", s.beater.Run)
	for _, r := range s.registrars {
		running.start("registrar", r.Run)
	}
	running.start("admin listener", func(context.Context) error { return s.admin.Serve() })
	if s.control != nil {
		running.start("control socket", func(context.Context) error { return s.control.Serve() })
	}
	running.start("calls", s.serveCalls)
	s.serving.Store(true)
	s.log.Info("flyproxy accepts calls", "mode", s.cfg.Mode, "version", s.version, "addresses", s.Addresses(), "admin", s.adminAddr,
		"service", s.cfg.Service, "instance", s.cfg.InstanceID, "region", s.cfg.Region, "registry", s.cfg.Registry.Store,
		"policy", s.cfg.Routing.Policy, "apps", len(s.registrars))

	select {
	case <-ctx.Done():
		what := "draining: deregistering, then open calls have time to end"
		if s.isGateway() {
			what = "draining: clients are told to go, and open calls have time to end"
		}
		s.log.Info(what, "timeout", s.cfg.Drain.Timeout)
	case <-running.ctx.Done():
		s.log.Error("a part has failed: ending", "error", context.Cause(running.ctx))
	}
	s.drain()
	// Until here it said that we are draining; its Serve ends only when it is closed.
	var closing sync.WaitGroup
	closing.Go(func() { _ = s.closeAdmin() }) // they never fail
	closing.Go(func() { _ = s.closeControl() })
	closing.Wait()
	// A command that a registry does not answer outlasts its context, by the client's own time limits. The connection's end ends it.
	running.cancel(nil)
	closed := s.store.Close()
	failed := running.stop()
	return errors.Join(failed, closed, s.teardown.run())
}

// firstView is how long calls that come right after the start wait for the first view of the registry.
const firstView = time.Second

// serveCalls accepts calls from the first view on: before it nobody is known, and a call would fail that an app makes the moment after
// its sidecar was started anew. Connections wait in the listeners' queues meanwhile. A registry that is away is not waited for long.
func (s *Sidecar) serveCalls(ctx context.Context) error {
	wait := time.NewTimer(firstView)
	defer wait.Stop()
	select {
	case <-s.discovery.Ready():
	case <-wait.C:
	case <-ctx.Done():
	}
	close(s.accepting)
	return s.engine.Serve(s.listeners...)
}

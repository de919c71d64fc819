package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// DefaultProbeTimeout bounds a probe of the advertised address, a dial to the app for an inbound connection, and the reflection.
const DefaultProbeTimeout = time.Second

// The pace at which an app that is healthy but cannot be reached is tried again.
const reachRetryLow, reachRetryHigh = 250 * time.Millisecond, 5 * time.Second

// The pace at which the advertised address of a registered app is probed again: soon at first, since what listens there may be an
// earlier process that is about to end, then for as long as the app is registered. It is one connect on this host.
const againLow, againHigh = time.Second, 5 * time.Second

// App is one app on this Machine.
type App struct {
	// Name is for logs and status pages.
	Name string
	// Address is where it listens locally, host:port.
	Address string
	// Service is the service that it registers as.
	Service string
}

// Config sets a [Registrar] up. App, Instance and Beater are required.
type Config struct {
	App App
	// Instance is the record to register; its Address is final. Service may be empty and is App.Service then. State may be empty and
	// is serving then. GRPCServices are filled in.
	Instance registry.Instance
	Inbound  InboundMode // "" means InboundAuto
	Health   HealthConfig
	// GRPCServices are the app's full gRPC service names; nil means that the app is asked by reflection whenever it becomes healthy.
	GRPCServices []string
	ProbeTimeout time.Duration // 0 means DefaultProbeTimeout
	Beater       *Beater
	Logger       *slog.Logger
}

// Registrar registers one app while it is healthy and reachable, and takes the registration back when it is not.
type Registrar struct {
	cfg     Config
	log     *slog.Logger
	key     registry.Key
	watcher *Watcher
	inbound *inbound

	changed  chan struct{} // capacity 1: the health has changed
	holds    chan holding  // taken by Run's loop
	draining chan struct{} // closed by the first Drain
	quiet    chan struct{} // closed by Run once it puts nothing any more
	drain    sync.Once
	started  atomic.Bool
	held     atomic.Bool            // by somebody, see Hold
	missed   atomic.Bool            // the registry did not answer the last Hold in time
	reason   atomic.Pointer[string] // why it is not registered

	// The rest belongs to Run's goroutine.
	retry  backoff // while it is not registered
	again  backoff // while it is
	logged string  // the reason that was last logged
}

// New checks cfg. Nothing happens before Run.
func New(cfg Config) (*Registrar, error) {
	if cfg.Instance.Service == "" {
		cfg.Instance.Service = cfg.App.Service
	}
	if cfg.Instance.State == "" {
		cfg.Instance.State = registry.Serving
	}
	if cfg.ProbeTimeout <= 0 {
		cfg.ProbeTimeout = DefaultProbeTimeout
	}
	switch cfg.Inbound {
	case "":
		cfg.Inbound = InboundAuto
	case InboundAuto, InboundAlways, InboundNever:
	default:
		return nil, fmt.Errorf("app %q: inbound %q: use auto, always or never", cfg.App.Name, cfg.Inbound)
	}
	if cfg.Beater == nil {
		return nil, fmt.Errorf("app %q: no beater", cfg.App.Name)
	}
	if _, _, err := net.SplitHostPort(cfg.Instance.Address); err != nil {
		return nil, fmt.Errorf("app %q: registration address %q is not host:port: %w", cfg.App.Name, cfg.Instance.Address, err)
	}
	if k := cfg.Instance.Key(); k.Service == "" || k.ID == "" {
		return nil, fmt.Errorf("app %q: instance %q has no service or no id", cfg.App.Name, k)
	}
	r := &Registrar{
		cfg:      cfg,
		log:      logger(cfg.Logger),
		key:      cfg.Instance.Key(),
		changed:  make(chan struct{}, 1),
		holds:    make(chan holding),
		draining: make(chan struct{}),
		quiet:    make(chan struct{}),
		retry:    backoff{low: reachRetryLow, high: reachRetryHigh},
		again:    backoff{low: againLow, high: againHigh},
	}
	r.inbound = newInbound(cfg.Instance.Address, cfg.ProbeTimeout, r.log)
	var err error
	r.watcher, err = NewWatcher(WatcherConfig{
		Name: cfg.App.Name, Address: cfg.App.Address, Alternate: r.alternate, Health: cfg.Health, OnChange: r.healthChanged,
		Expected: r.held.Load, Logger: r.log,
	})
	if err != nil {
		return nil, fmt.Errorf("app %q: %w", cfg.App.Name, err)
	}
	r.because("the app's health is not known yet")
	return r, nil
}

// Run watches the app and registers it until ctx ends, then returns nil, with every connection and goroutine of it gone. It does not
// deregister: call Drain first. It runs once; a second call fails.
func (r *Registrar) Run(ctx context.Context) error {
	if r.started.Swap(true) {
		return errors.New("run registrar: it has been run already")
	}
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go r.watch(ctx, watched)
	defer r.inbound.close()
	defer func() { <-watched }()
	defer cancel()
	r.loop(ctx)
	close(r.quiet)
	<-ctx.Done()
	return nil
}

func (r *Registrar) watch(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	r.watcher.Run(ctx)
}

// up registers what was found healthy and reachable.
func (r *Registrar) up(inst registry.Instance) {
	select {
	case <-r.draining:
		return
	default:
	}
	r.because("")
	r.logged = ""
	r.retry.reset()
	r.again.reset()
	r.cfg.Beater.Put(inst)
}

// lost takes the registration back because what listened at the advertised address is gone, and nothing can take its place.
func (r *Registrar) lost(err error) {
	r.logged = err.Error()
	r.log.Error("the app is healthy but peers cannot reach it any more: deregistering it, and trying again",
		"app", r.cfg.App.Name, "error", err)
	r.because(err.Error()) // before the registration changes, so that no status is without a reason
	r.cfg.Beater.Drop(r.key)
}

// failed notes why the app could not be registered and gives the wait before the next attempt.
func (r *Registrar) failed(err error) time.Duration {
	if r.logged != err.Error() {
		r.logged = err.Error()
		r.log.Error("the app is healthy but not registered; trying again", "app", r.cfg.App.Name, "error", err)
	}
	r.because(err.Error())
	return r.retry.next()
}

func (r *Registrar) because(reason string) { r.reason.Store(&reason) }

// healthChanged runs in the watcher's goroutine.
func (r *Registrar) healthChanged(Health) {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// alternate is where the app may be found when its own address refuses: at the advertised one, unless that is our own listener.
func (r *Registrar) alternate() string {
	if r.cfg.Inbound == InboundAlways || r.inbound.listening() {
		return ""
	}
	return r.cfg.Instance.Address
}

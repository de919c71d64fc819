// Package discovery keeps one sidecar's view of the registry: every instance that is registered, as an immutable
// [registry.View] that readers take by one atomic load.
//
// A watch of the registry says what changed; each message carries the registry's version before and after it. As long as the
// versions meet, changes are applied one by one. Whenever they do not, and whenever the watch was interrupted, a snapshot of
// everything is read. Each heartbeat brings the registry's version too (see [Discovery.Observe]), so a lost message or a watch
// that died without a word is found out at the next beat.
//
// One goroutine, the owner, holds all mutable state. Whatever happens to the registry, the last view stays in force: a
// registry that cannot be reached, or that lost its data, empties nobody's view.
package discovery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Defaults of a [Config].
const (
	DefaultLease    = 15 * time.Second
	DefaultCoalesce = 10 * time.Millisecond
)

// Config is what a Discovery is made of.
type Config struct {
	// Store is the registry that is watched. Only Watch and Snapshot are called; closing it stays with who opened it.
	Store registry.Store
	// Lease is how long an instance that vanished without a word is kept, marked as held; 0 means [DefaultLease]. It should be
	// the lease under which instances register: within it each of them beats, learns that it is unknown, and registers again.
	Lease time.Duration
	// Coalesce is the least time between two views; 0 means [DefaultCoalesce]. The first change after a quiet time is
	// published at once.
	Coalesce time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Discovery holds the view. All methods may be called concurrently, except where they say otherwise.
type Discovery struct {
	cfg   Config
	log   *slog.Logger
	inbox *inbox
	ready chan struct{}
	began atomic.Bool

	view atomic.Pointer[registry.View]

	// onChange is fixed once Run has begun.
	onChange []func(*registry.View)

	subs subscribers

	// statusMu guards status. Nothing is called while it is held.
	statusMu sync.Mutex
	status   Status
}

// errRunning is Run's answer to a second call.
var errRunning = errors.New("discovery: Run was called twice")

// New makes a Discovery, whose view is empty and from nowhere until Run has read one.
func New(cfg Config) *Discovery {
	if cfg.Lease <= 0 {
		cfg.Lease = DefaultLease
	}
	if cfg.Coalesce <= 0 {
		cfg.Coalesce = DefaultCoalesce
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Discovery{
		cfg:    cfg,
		log:    cfg.Logger,
		inbox:  newInbox(),
		ready:  make(chan struct{}),
		status: Status{State: Connecting, Source: registry.FromNowhere},
	}
	d.view.Store(&registry.View{Source: registry.FromNowhere})
	return d
}

// Run watches the registry until ctx ends and returns nil then, with every goroutine that it started gone. It may be called
// once. A registry that cannot be reached is no reason to return.
func (d *Discovery) Run(ctx context.Context) error {
	if !d.began.CompareAndSwap(false, true) {
		return errRunning
	}
	ctx, cancel := context.WithCancel(ctx)
	r := newReader(d.cfg.Store)
	var joined sync.WaitGroup
	joined.Add(2)
	go d.watch(ctx, &joined)
	go r.run(ctx, &joined)
	newOwner(d, r).run(ctx)
	cancel()
	joined.Wait()
	return nil
}

// View is the view in force: never nil, never changed after it was published.
func (d *Discovery) View() *registry.View { return d.view.Load() }

// Ready is closed when the first view has been read from the registry and told to the functions of OnChange.
func (d *Discovery) Ready() <-chan struct{} { return d.ready }

// Observe tells what a beat learnt. A version equal to the view's confirms the view. Another one may only mean that the
// message is still on its way; if it does not come within a short grace, a snapshot is read. Observe never blocks.
func (d *Discovery) Observe(reply registry.BeatReply) { d.inbox.observe(reply.Version) }

// OnChange has f called with every new view, in order, from the owner's goroutine: f must not block. It must be called before
// Run.
func (d *Discovery) OnChange(f func(*registry.View)) { d.onChange = append(d.onChange, f) }

// Subscribe gives a channel that receives after the view has changed. Changes that come while the last one has not been
// received yet are told once: receive, then take View. The channel is never closed; cancel ends the subscription and may be
// called more than once.
func (d *Discovery) Subscribe() (changed <-chan struct{}, cancel func()) { return d.subs.add() }

// publish makes v the view in force and tells everybody. Only the owner calls it.
func (d *Discovery) publish(v *registry.View) {
	first := d.view.Swap(v).Source == registry.FromNowhere
	for _, f := range d.onChange {
		f(v)
	}
	if first {
		close(d.ready)
	}
	d.subs.notify()
}

// Package routing chooses the peer of each call: one call → service → candidates → Pick.
//
// The way of a choice: the service (named by a header, by the route table, by the gRPC service that instances registered, else
// our own), then a pin to one instance, then the tiers of that service (the same region, then by distance, ourselves last),
// then the policy among the peers of the first tier that has one to offer. A peer that refuses a connection is backed off and
// the call goes to another.
//
// Route reads one immutable table by an atomic load; it takes no lock, never blocks and does not allocate. Update makes a new
// table. Peers outlive tables, so calls in flight and backoffs are kept when the registry changes.
package routing

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// SelfMode says when a call may go to the app of our own Machine.
type SelfMode string

// The modes of routing.self.
const (
	SelfLast    SelfMode = "last"    // only when nobody else is left
	SelfInclude SelfMode = "include" // like any other instance of our region
	SelfNever   SelfMode = "never"
)

// Headers are the names, in lower case, of the metadata that steers a call. A name left empty is not looked for.
type Headers struct {
	Service       string
	ForceInstance string
}

// Route sends the calls whose method begins with Prefix to Service. The longest prefix that fits wins.
type Route struct {
	Prefix  string
	Service string
}

// Config is what a Router needs. It is not changed after New.
type Config struct {
	// Service is our own service: calls that nothing else assigns go there.
	Service string
	// Self are the instances of our own Machine.
	Self []registry.Key
	// Region is our own region; empty when it is not known.
	Region string
	// Distance gives the way from our region to another in km, if it is known. Nil means that none is known.
	Distance func(region string) (km float64, known bool)
	// Policy is one of [Policies].
	Policy       string
	PreferRegion bool
	SelfMode     SelfMode
	// Excluded tells why an instance must get no calls from us; empty where it may. Nil excludes none. It is asked at each Update.
	Excluded func(*registry.Instance) (why string)
	Routes   []Route
	Headers  Headers
	// BackoffBase and BackoffMax bound how long a peer that refused a connection gets no calls: base, doubled at each further
	// refusal, up to max, with jitter of a quarter. A single call tries it again when the time is over.
	BackoffBase, BackoffMax time.Duration
	// Now is the clock; nil means time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Router chooses. All methods may be called concurrently; Update is serialised.
type Router struct {
	cfg    Config
	policy policy
	epoch  time.Time
	table  atomic.Pointer[table]
	// Every call reads what stands above and writes below: not on one cache line.
	_     [64]byte
	stats stats

	// mu serialises Update and guards the fields below. It is never held while calling out.
	mu       sync.Mutex
	peers    map[registry.Key]*Peer
	onRemove []func(*Peer)
	rtts     map[string]time.Duration // by region, as measured
	excluded map[registry.Key]Exclusion
}

// New makes a Router that knows no instances yet. It fails on an unknown policy.
func New(cfg Config) (*Router, error) {
	p, err := newPolicy(cfg.Policy)
	if err != nil {
		return nil, err
	}
	epoch := time.Now()
	if cfg.Now != nil {
		epoch = cfg.Now()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.BackoffBase <= 0 {
		cfg.BackoffBase = 100 * time.Millisecond
	}
	cfg.BackoffMax = max(cfg.BackoffMax, cfg.BackoffBase)
	cfg.Routes = slices.Clone(cfg.Routes)
	slices.SortStableFunc(cfg.Routes, func(a, b Route) int { return len(b.Prefix) - len(a.Prefix) })
	r := &Router{cfg: cfg, policy: p, epoch: epoch, peers: make(map[registry.Key]*Peer), rtts: make(map[string]time.Duration)}
	r.table.Store(&table{})
	return r, nil
}

// OnRemove has f called, from Update, with every peer that is no longer known. Its calls in flight go on; who holds connections
// to it closes them when they have ended. Call it before the first Update.
func (r *Router) OnRemove(f func(*Peer)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onRemove = append(r.onRemove, f)
}

// Take reads one header of a call. It reports whether the header is one that steers: such headers are consumed, not forwarded.
func (r *Router) Take(c *Call, name, value string) bool {
	switch name {
	case "":
		return false
	case r.cfg.Headers.ForceInstance:
		c.ForceInstance = value
	case r.cfg.Headers.Service:
		c.Service = value
	default:
		return false
	}
	return true
}

// Route chooses a peer for c. It may be called again for the same call after the Pick's outcome was [Refused] or [Unprocessed]: such
// peers are not offered to it again. The error is an [*Error], which carries the gRPC status code for the caller.
func (r *Router) Route(c *Call) (Pick, error) {
	t := r.table.Load()
	name := r.serviceOf(t, c)
	svc := t.services[name]
	if svc == nil {
		return Pick{}, r.errNone(c, name, nil)
	}
	svc.touch()
	now := r.now()
	if c.ForceInstance != "" {
		return r.force(svc, c, now)
	}
	for i := range svc.tiers {
		tier := &svc.tiers[i]
		if p := r.policy.pick(tier, c, now); p != nil {
			reason := tier.reason
			if len(c.tried) > 0 {
				reason = ReasonRetry
			}
			return r.picked(p, c, svc, reason), nil
		}
	}
	// Everybody is backed off. A wrong guess costs one refused connection, giving up costs the call: try whoever is due soonest.
	if p := svc.leastBackedOff(c); p != nil && len(c.tried) < maxAttempts {
		return r.picked(p, c, svc, ReasonLastResort), nil
	}
	return Pick{}, r.errNone(c, name, svc)
}

func (r *Router) picked(p *Peer, c *Call, svc *service, why Reason) Pick {
	p.inFlight.Add(1)
	r.stats.picks[why].Add(1)
	return Pick{Peer: p, Service: svc.name, Reason: why, router: r, call: c}
}

func (r *Router) force(svc *service, c *Call, now int64) (Pick, error) {
	p := svc.byID[c.ForceInstance]
	if p == nil {
		what := "an instance that is not registered"
		if svc.draining[c.ForceInstance] {
			what = "an instance that is draining"
		}
		if why := svc.excluded[c.ForceInstance]; why != "" {
			what = "an instance that gets no calls from here (" + why + "), and"
		}
		return Pick{}, r.unroutable(svc.name, fmt.Sprintf("No gRPC instance %q of service %q: %s names %s (%d known)",
			clip(c.ForceInstance), svc.name, r.cfg.Headers.ForceInstance, what, svc.known))
	}
	if c.hasTried(p) {
		return Pick{}, r.unroutable(svc.name, fmt.Sprintf("gRPC instance %q of service %q at %s did not take the call; %s allows no other",
			p.Key.ID, svc.name, p.Address, r.cfg.Headers.ForceInstance))
	}
	// A pin means this instance, backed off or not; a try is also how one finds out that it is back.
	p.tryUse(now)
	return r.picked(p, c, svc, ReasonForced), nil
}

// serviceOf decides which service a call is for.
func (r *Router) serviceOf(t *table, c *Call) string {
	if c.Service != "" {
		return c.Service
	}
	for i := range r.cfg.Routes {
		if strings.HasPrefix(c.Method, r.cfg.Routes[i].Prefix) {
			return r.cfg.Routes[i].Service
		}
	}
	if name, ok := t.byGRPC[grpcService(c.Method)]; ok {
		return name
	}
	return r.cfg.Service
}

// grpcService is "package.Service" of "/package.Service/Method".
func grpcService(method string) string {
	if len(method) < 2 || method[0] != '/' {
		return ""
	}
	if i := strings.IndexByte(method[1:], '/'); i >= 0 {
		return method[1 : 1+i]
	}
	return ""
}

// now is the time since the router was made, in nanoseconds: monotonic, so a step of the clock ends or begins no backoff.
func (r *Router) now() int64 {
	if r.cfg.Now == nil {
		return int64(time.Since(r.epoch)) // it reads one clock, time.Now two
	}
	return int64(r.cfg.Now().Sub(r.epoch))
}

// refused backs a peer off. Calls that were waiting for the same connection all learn that it failed; only the first of them
// counts, or ten calls would make ten refusals of one.
func (r *Router) refused(p *Peer) {
	now, old := r.now(), p.backoff.Load()
	n := 1
	if old != nil {
		if now < old.ends {
			return
		}
		n = old.refusals + 1
	}
	d := r.cfg.BackoffMax
	if shift := n - 1; shift < 16 && r.cfg.BackoffBase<<shift < d {
		d = r.cfg.BackoffBase << shift
	}
	d += time.Duration(rand.Int64N(int64(d)/4+1)) - d/8
	ends := now + int64(d)
	if p.backoff.CompareAndSwap(old, &backoff{refusals: n, ends: ends, until: ends}) && n == 1 {
		r.cfg.Logger.Warn("peer refuses or loses connections: backing off", "service", p.Key.Service, "instance", p.Key.ID,
			"address", p.Address)
	}
}

// answered forgives a peer. The usual case is one load: nothing to forgive.
func (r *Router) answered(p *Peer) {
	if p.backoff.Load() != nil && p.backoff.Swap(nil) != nil {
		r.cfg.Logger.Info("peer answers again", "service", p.Key.Service, "instance", p.Key.ID, "address", p.Address)
	}
}

func clip(s string) string {
	if len(s) <= 64 {
		return s
	}
	return strings.ToValidUTF8(s[:64], "") + "…"
}

package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// The pace at which an app that does not accept connections is tried. A refused connection on one host costs microseconds, and
// what starts should be found soon.
const (
	dialRetryLow  = 100 * time.Millisecond
	dialRetryHigh = 500 * time.Millisecond
)

// settled is how long a connection must have lasted for the next one to be used at once.
const settled = time.Second

// When an app that is not healthy is worth a warning, and how often.
const (
	stuckAfter = 10 * time.Second
	stuckEvery = time.Minute
)

// WatcherConfig sets a [Watcher] up.
type WatcherConfig struct {
	// Name is the app's, for logs.
	Name string
	// Address is the app's local host:port.
	Address string
	// Alternate gives another address at which the app may be found when Address refuses, or "". Optional.
	Alternate func() string
	Health    HealthConfig
	// OnChange is told when the health becomes known and whenever it changes, from Run's goroutine. It must not block. Optional.
	OnChange func(Health)
	// Expected tells whether the app is being stopped on purpose: its end is then no warning in the log. Optional.
	Expected func() bool
	Logger   *slog.Logger
}

// Watcher knows the health of one local app. It keeps one connection to it, so that a crash is known at once, and asks over it.
type Watcher struct {
	cfg    WatcherConfig
	log    *slog.Logger
	health atomic.Pointer[Health]

	forgets chan chan struct{} // taken by Run, which closes each when it is done

	// The rest belongs to follow's goroutine, and to Run while there is none.
	tally   tally
	retry   backoff
	how     string    // as last logged
	address string    // as last tried
	downAt  time.Time // since when it is not healthy
	warnAt  time.Time // when to warn about it
	asked   string    // the kind of trouble that was last explained in the log
	seen    int       // counts the observations
}

// NewWatcher checks cfg. Nothing happens before Run.
func NewWatcher(cfg WatcherConfig) (*Watcher, error) {
	if _, _, err := net.SplitHostPort(cfg.Address); err != nil {
		return nil, fmt.Errorf("app address %q is not host:port: %w", cfg.Address, err)
	}
	var err error
	if cfg.Health, err = cfg.Health.withDefaults(); err != nil {
		return nil, err
	}
	w := &Watcher{
		cfg:     cfg,
		log:     logger(cfg.Logger),
		tally:   tally{rise: cfg.Health.Rise, fall: cfg.Health.Fall},
		retry:   backoff{low: dialRetryLow, high: min(dialRetryHigh, cfg.Health.Interval)},
		address: cfg.Address,
		forgets: make(chan chan struct{}),
	}
	w.health.Store(&Health{How: "connect", Detail: "not asked yet", Address: cfg.Address})
	return w, nil
}

// Health is the app's health as of the last observation.
func (w *Watcher) Health() Health { return *w.health.Load() }

// Run watches until ctx ends, then returns nil. It is not for more than one call at a time.
func (w *Watcher) Run(ctx context.Context) error {
	w.downAt = time.Now()
	w.warnAt = w.downAt.Add(stuckAfter)
	for {
		life, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go w.follow(life, ended)
		select {
		case <-ctx.Done():
			cancel()
			<-ended
			return nil
		case done := <-w.forgets:
			cancel()
			<-ended
			w.forget()
			close(done)
		}
	}
}

// Forget says that the app is another process from now on. It returns once nothing counts any more that was learnt of the one before.
func (w *Watcher) Forget(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case w.forgets <- done:
		<-done
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// forget begins anew. Nobody follows the app meanwhile.
func (w *Watcher) forget() {
	was := w.tally.healthy
	w.tally = tally{rise: w.cfg.Health.Rise, fall: w.cfg.Health.Fall}
	w.retry.reset()
	h := Health{How: "connect", Detail: "not asked yet since its process is another", Address: w.address, Since: time.Now()}
	w.health.Store(&h)
	if was {
		w.changed(h, was)
	} else if w.cfg.OnChange != nil { // what it was said to be unhealthy for is void too
		w.cfg.OnChange(h)
	}
}

// follow watches the app, as the process that it is, until ctx ends.
func (w *Watcher) follow(ctx context.Context, ended chan<- struct{}) {
	defer close(ended)
	if w.cfg.Health.Mode == HealthNone {
		w.using("none", "health.mode says so: the app counts as healthy")
		w.tally.rise = 1
		w.observe(good, "none", "not checked")
		<-ctx.Done()
		return
	}
	var next time.Time // not before then is a connection used
	for ctx.Err() == nil {
		conn, err := w.dial(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			w.observe(dialVerdict(err), "connect", err.Error())
			pause(ctx, w.retry.next())
			continue
		}
		pause(ctx, time.Until(next)) // an app that drops its connections is not tried in a tight loop
		began := time.Now()
		seen := w.seen
		w.attend(ctx, conn)
		if w.seen == seen && ctx.Err() == nil {
			w.observe(unsure, "connect", "the app closed the connection before it answered")
		}
		next = time.Time{}
		if time.Since(began) < settled {
			next = time.Now().Add(w.retry.next())
		} else {
			w.retry.reset()
		}
	}
}

// attend watches the app over conn until conn breaks or ctx ends, and closes conn.
func (w *Watcher) attend(ctx context.Context, conn net.Conn) {
	s, err := newSession(ctx, w, conn)
	if err != nil {
		conn.Close()
		if w.cfg.Health.Mode == HealthTCP && ctx.Err() == nil {
			w.pollTCP(ctx)
			return
		}
		w.observe(unsure, "connect", err.Error())
		return
	}
	defer s.close()
	s.run()
}

// pollTCP connects every interval, until that fails. It serves apps that do not speak plaintext HTTP/2 on their port. No connection
// is kept to them: a server may wait for the first bytes of each one before it stops (a grpc-go server does, for up to 2 minutes).
func (w *Watcher) pollTCP(ctx context.Context) {
	w.using("tcp", "health.mode says so; a crash is known within an interval, as the app speaks no plaintext HTTP/2")
	for ctx.Err() == nil {
		conn, err := w.dialAt(ctx, w.address)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.observe(dialVerdict(err), "tcp", err.Error())
			return
		}
		conn.Close()
		w.observe(good, "tcp", "accepts connections")
		pause(ctx, w.cfg.Health.Interval)
	}
}

// dial connects to the app. Where its own address refuses and another one accepts, the app is taken to be there.
func (w *Watcher) dial(ctx context.Context) (net.Conn, error) {
	conn, err := w.dialAt(ctx, w.cfg.Address)
	if err == nil || w.cfg.Alternate == nil || !errors.Is(err, syscall.ECONNREFUSED) {
		w.address = w.cfg.Address
		return conn, err
	}
	other := w.cfg.Alternate()
	if other == "" || other == w.cfg.Address {
		w.address = w.cfg.Address
		return nil, err
	}
	conn, otherErr := w.dialAt(ctx, other)
	if otherErr != nil {
		w.address = w.cfg.Address
		return nil, err
	}
	if w.address != other {
		w.address = other
		w.log.Info("the app does not accept at its configured address but at the advertised one: using that",
			"app", w.cfg.Name, "configured", w.cfg.Address, "using", other)
	}
	return conn, nil
}

func (w *Watcher) dialAt(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Health.Timeout)
	defer cancel()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// dialVerdict: only "refused" says for certain that nothing is there.
func dialVerdict(err error) verdict {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return bad
	}
	return unsure
}

// using logs once which way of asking is in use, and why.
func (w *Watcher) using(how, why string) {
	if w.how != how {
		w.how = how
		w.log.Info("watching the app's health", "app", w.cfg.Name, "address", w.address, "how", how, "why", why)
	}
}

// observe counts one observation, publishes the health and reports a change.
func (w *Watcher) observe(v verdict, how, detail string) {
	now := time.Now()
	w.seen++
	was := w.tally.healthy
	changed := w.tally.add(v)
	h := Health{Known: w.tally.known, Healthy: w.tally.healthy, How: how, Detail: detail, Address: w.address, Since: w.Health().Since}
	if changed {
		h.Since = now
	}
	w.health.Store(&h)
	if changed {
		w.changed(h, was)
	}
	w.remind()
}

// expected tells whether an end of the app is nothing to be warned of.
func (w *Watcher) expected() bool { return w.cfg.Expected != nil && w.cfg.Expected() }

func (w *Watcher) changed(h Health, was bool) {
	switch {
	case h.Healthy:
		w.log.Info("app is healthy", "app", w.cfg.Name, "health", h)
	case was && w.expected():
		w.log.Info("app is not healthy any more, after it was withdrawn", "app", w.cfg.Name, "health", h)
	case was:
		w.log.Warn("app is not healthy any more", "app", w.cfg.Name, "health", h)
	default:
		w.log.Info("app is not healthy yet", "app", w.cfg.Name, "health", h)
	}
	if was && !h.Healthy {
		w.downAt = h.Since
		w.warnAt = h.Since.Add(stuckAfter)
	}
	if w.cfg.OnChange != nil {
		w.cfg.OnChange(h)
	}
}

// remind warns when an app does not become healthy: what is tried, and what to check.
func (w *Watcher) remind() {
	h, now := w.Health(), time.Now()
	if h.Healthy || now.Before(w.warnAt) {
		return
	}
	w.warnAt = now.Add(stuckEvery)
	w.log.Warn("app is still not healthy, so it is not registered. Check that it runs and listens at this address (apps[].address, "+
		"GRPC_PORT), that health.service is a name its health service knows, and that the health mode fits it",
		"app", w.cfg.Name, "address", h.Address, "mode", w.cfg.Health.Mode, "service", w.cfg.Health.Service,
		"for", now.Sub(w.downAt).Round(time.Second), "last", h.Detail)
}

// explain logs msg once per kind of trouble, until another kind shows up.
func (w *Watcher) explain(kind, msg string, args ...any) {
	if w.asked != kind {
		w.asked = kind
		w.log.Warn(msg, append([]any{"app", w.cfg.Name, "address", w.address}, args...)...)
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

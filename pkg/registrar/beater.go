package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Defaults of a [BeaterConfig].
const (
	DefaultBeatInterval = 5 * time.Second
	DefaultBeatTimeout  = 2 * time.Second
)

// The bounds of the waits between attempts. All lie well below any usable lease.
const (
	beatRetryLow, beatRetryHigh   = 100 * time.Millisecond, time.Second
	writeRetryLow, writeRetryHigh = 100 * time.Millisecond, 5 * time.Second
)

// The errors of a [Beater].
var (
	// ErrStopped says that the Beater has ended, so nothing can be written any more; leases end what is still registered.
	ErrStopped = errors.New("beater stopped")
	// ErrPutAgain answers a Withdraw that was overtaken by a Put of the same key.
	ErrPutAgain = errors.New("registered again meanwhile")
)

// BeaterConfig sets a [Beater] up. Store is required. The functions are called from the goroutine of Run and must not block;
// they may call the Beater's own methods, except Withdraw.
type BeaterConfig struct {
	Store registry.Store
	// Interval lies between two beats, ±10 % at random; 0 means [DefaultBeatInterval].
	Interval time.Duration
	// Lease is how long a registration lives without a beat; 0 means three intervals. It must be longer than one.
	Lease time.Duration
	// Timeout bounds each single command; 0 means [DefaultBeatTimeout] or Interval, whichever is less.
	Timeout time.Duration
	Logger  *slog.Logger

	// Load is what every beat reports, the same for all instances of the Machine. Optional.
	Load func() registry.Load
	// Wanted gives up to most keys whose loads the next beat asks for. Optional.
	Wanted func(most int) []registry.Key
	// OnReply is told every answer and how long it took. Optional.
	OnReply func(reply registry.BeatReply, latency time.Duration)
	// OnError is told every failed beat. Optional.
	OnError func(error)
	// OnSuperseded is told that another process holds the record of a key which this one had registered. Optional.
	OnSuperseded func(registry.Key)
	// Wall is the wall clock; nil means time.Now. For tests of clock jumps.
	Wall func() time.Time
}

// Beater keeps the registrations of one Machine alive. It sends one beat every interval for all of them together, also when
// there are none: watchers beat too. Its methods may be called concurrently.
type Beater struct {
	cfg  BeaterConfig
	log  *slog.Logger
	done chan struct{} // closed when Run has returned

	status atomic.Pointer[BeatStatus]
	signal chan struct{} // capacity 1: mail is not empty

	mu      sync.Mutex // guards mail, started
	mail    []command
	started bool
}

// command is a Put, or with withdraw set a Drop of the instance's key.
type command struct {
	inst     registry.Instance
	withdraw bool
	answer   chan<- error // capacity 1, or nil
}

// NewBeater checks cfg and fills in its defaults. Nothing happens before Run.
func NewBeater(cfg BeaterConfig) (*Beater, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = DefaultBeatInterval
	}
	if cfg.Lease <= 0 {
		cfg.Lease = 3 * cfg.Interval
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = min(DefaultBeatTimeout, cfg.Interval)
	}
	if cfg.Store == nil {
		return nil, errors.New("new beater: no store")
	}
	if cfg.Lease <= cfg.Interval {
		return nil, fmt.Errorf("new beater: lease %v is not longer than interval %v: every instance would expire between two beats",
			cfg.Lease, cfg.Interval)
	}
	b := &Beater{cfg: cfg, log: logger(cfg.Logger), done: make(chan struct{}), signal: make(chan struct{}, 1)}
	b.status.Store(&BeatStatus{})
	return b, nil
}

// Run beats until ctx ends, then waits for its commands to end and returns nil. It does not deregister: whoever stops it calls
// Withdraw first. It runs once; a second call fails.
func (b *Beater) Run(ctx context.Context) error {
	b.mu.Lock()
	twice := b.started
	b.started = true
	b.mu.Unlock()
	if twice {
		return errors.New("run beater: it has been run already")
	}
	defer close(b.done)
	newBeatLoop(b).run(ctx)
	return nil
}

// Put registers inst now and keeps it registered until Drop or Withdraw. It returns at once; what fails is tried again, with
// growing waits, for as long as it takes. The first registration of a key in this process takes the record over from whoever
// holds it. Put again with another value of the same key replaces the record; with the same value it does nothing.
func (b *Beater) Put(inst registry.Instance) { b.send(command{inst: inst}) }

// Drop takes the registration of key back, as Withdraw does, and returns at once.
func (b *Beater) Drop(key registry.Key) { b.send(withdrawal(key, nil)) }

// Withdraw takes the registration of key back and waits until the registry has confirmed it, or ctx ends. It goes on trying in
// the background after that; if that does not help, the lease ends the registration.
func (b *Beater) Withdraw(ctx context.Context, key registry.Key) error {
	answer := make(chan error, 1)
	if !b.send(withdrawal(key, answer)) {
		return nil // Run has not begun, so nothing was registered; the command only undoes earlier Puts
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("withdraw %s: %w; its lease of %v ends it", key, context.Cause(ctx), b.cfg.Lease)
	case <-b.done:
		return fmt.Errorf("withdraw %s: %w", key, ErrStopped)
	}
}

func withdrawal(key registry.Key, answer chan<- error) command {
	return command{inst: registry.Instance{Service: key.Service, ID: key.ID}, withdraw: true, answer: answer}
}

// send queues c and tells whether Run has begun. It never blocks, so that the functions of BeaterConfig may cause commands.
func (b *Beater) send(c command) bool {
	b.mu.Lock()
	b.mail = append(b.mail, c)
	started := b.started
	b.mu.Unlock()
	select {
	case b.signal <- struct{}{}:
	default:
	}
	return started
}

// receive takes all that is queued, in order.
func (b *Beater) receive() []command {
	b.mu.Lock()
	defer b.mu.Unlock()
	mail := b.mail
	b.mail = nil
	return mail
}

// logger makes a missing logger a silent one.
func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

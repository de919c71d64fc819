package registrar

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The errors of [Registrar.Drain], which may come together.
var (
	// ErrNotWithdrawn says that the registry did not confirm the end of the registration; its lease ends it.
	ErrNotWithdrawn = errors.New("registration not withdrawn")
	// ErrConnectionsCut says that inbound connections were still open at the end of the time given, and were cut.
	ErrConnectionsCut = errors.New("inbound connections cut")
)

// A drain tells the registry first, so that peers stop connecting before the listener closes. A registry that does not answer
// must not use up the time that open connections have to end: it gets a quarter of it, and no more than headStart.
const (
	headStart      = time.Second
	headStartShare = 4
)

// Drain deregisters, then stops the inbound listener and waits for its connections to end. When the registry does not answer soon,
// the listener closes before it has, and the deregistering goes on beside. All is bounded by ctx: past it, the lease ends the
// registration ([ErrNotWithdrawn]) and the connections are cut ([ErrConnectionsCut]). It may be called again, and whether or not
// Run was.
func (r *Registrar) Drain(ctx context.Context) error {
	r.drain.Do(func() { close(r.draining) })
	if r.started.Load() {
		select {
		case <-r.quiet:
		case <-ctx.Done():
		}
	}
	patient, cancel := r.patience(ctx)
	defer cancel()
	w := &withdrawing{done: make(chan struct{})}
	go r.withdraw(patient, w)
	w.await(ctx)
	cut := r.inbound.drain(ctx)
	<-w.done
	return errors.Join(w.err, cut)
}

// patience bounds how long a drain waits for the registry. One that did not answer a Hold has had its time.
func (r *Registrar) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if !r.missed.Load() {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, lead(ctx))
}

// lead is the head start that a withdrawal has within ctx.
func lead(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(headStart, time.Until(deadline)/headStartShare)
	}
	return headStart
}

// withdrawing is a withdrawal under way.
type withdrawing struct {
	done chan struct{} // closed when err is set
	err  error
}

func (r *Registrar) withdraw(ctx context.Context, w *withdrawing) {
	defer close(w.done)
	if err := r.cfg.Beater.Withdraw(ctx, r.key); err != nil {
		w.err = fmt.Errorf("%w: %w", ErrNotWithdrawn, err)
	}
}

// await waits for the withdrawal to end, but no longer than its head start.
func (w *withdrawing) await(ctx context.Context) {
	timer := time.NewTimer(lead(ctx))
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

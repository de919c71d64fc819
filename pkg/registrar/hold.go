package registrar

import (
	"context"
	"errors"
	"fmt"
)

// ReasonHeld is why an app is not registered that [Registrar.Hold] keeps out of the registry.
const ReasonHeld = "withdrawn on request"

// errEnding answers a Release after the drain has begun.
var errEnding = errors.New("the app is drained for good")

// holding asks Run's loop to keep the app out of the registry, or to stop doing so.
type holding struct {
	on   bool
	done chan struct{} // closed by the loop once the beater has been told
}

// Hold takes the registration back and keeps the app out of the registry, however healthy it is, until Release. Calls that peers have
// on the app go on, and where we listen for it they are still accepted, since some peers learn of it later than others. Hold waits
// until the registry has confirmed the end of the registration or ctx ends; in the second case it goes on trying, and the lease ends
// the registration at last ([ErrNotWithdrawn]). It may be called again, and waits for Run to have begun.
func (r *Registrar) Hold(ctx context.Context) error {
	if err := r.hold(ctx, true); err != nil {
		r.missed.Store(true)
		return fmt.Errorf("%w: %w", ErrNotWithdrawn, err)
	}
	w := &withdrawing{done: make(chan struct{})}
	r.withdraw(ctx, w)
	r.missed.Store(w.err != nil)
	return w.err
}

// Release ends a Hold: a healthy app is registered again.
func (r *Registrar) Release(ctx context.Context) error { return r.hold(ctx, false) }

// hold returns once the loop has done as it was told. A loop that has ended for a drain holds already, and cannot release any more.
func (r *Registrar) hold(ctx context.Context, on bool) error {
	h := holding{on: on, done: make(chan struct{})}
	select {
	case r.holds <- h:
		r.held.Store(on)
		<-h.done
		return nil
	case <-r.quiet:
		if on {
			return nil
		}
		return errEnding
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

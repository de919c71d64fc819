package registrar

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Holder is somebody who keeps an app out of the registry, in words that end the sentence "withdrawn …". Each lets go by himself: what
// one has withdrawn another does not bring back.
type Holder string

// errEnding answers a Release after the drain has begun.
var errEnding = errors.New("the app is drained for good")

// holding asks Run's loop to keep the app out of the registry, or to stop doing so.
type holding struct {
	by   Holder
	on   bool
	done chan struct{} // closed by the loop once the beater has been told
}

// Hold takes the registration back and keeps the app out of the registry, however healthy it is, until all who hold it have released
// it. Calls that peers have on the app go on, and where we listen for it they are still accepted, since some peers learn of it later than
// others. Hold waits until the registry has confirmed the end of the registration or ctx ends; in the second case it goes on trying, and
// the lease ends the registration at last ([ErrNotWithdrawn]). It may be called again, and waits for Run to have begun.
func (r *Registrar) Hold(ctx context.Context, by Holder) error {
	if err := r.hold(ctx, by, true); err != nil {
		r.missed.Store(true)
		return fmt.Errorf("%w: %w", ErrNotWithdrawn, err)
	}
	w := &withdrawing{done: make(chan struct{})}
	r.withdraw(ctx, w)
	r.missed.Store(w.err != nil)
	return w.err
}

// Release ends a Hold by the same holder, if there is one. A healthy app that nobody else holds is registered again.
func (r *Registrar) Release(ctx context.Context, by Holder) error { return r.hold(ctx, by, false) }

// Forget says that the app is another process from now on: what was known of its health is void, and it is asked anew, at once. It waits
// for Run to have begun.
func (r *Registrar) Forget(ctx context.Context) error { return r.watcher.Forget(ctx) }

// hold returns once the loop has done as it was told. A loop that has ended for a drain holds already, and cannot release any more.
func (r *Registrar) hold(ctx context.Context, by Holder, on bool) error {
	h := holding{by: by, on: on, done: make(chan struct{})}
	select {
	case r.holds <- h:
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

// holders are who keeps the app out. They belong to Run's loop.
type holders map[Holder]bool

func (h holders) set(by Holder, on bool) {
	if on {
		h[by] = true
	} else {
		delete(h, by)
	}
}

// reason is why a held app is not registered.
func (h holders) reason() string {
	var words []string
	for _, by := range slices.Sorted(maps.Keys(h)) {
		words = append(words, string(by))
	}
	return "withdrawn " + strings.Join(words, ", ")
}

package registrar

import (
	"context"
	"time"
)

// follower is Run's loop: it follows the app's health, and what [Registrar.Hold] says. It belongs to one goroutine.
type follower struct {
	r       *Registrar
	timer   *time.Timer // the next attempt, once one has ended
	try     *attempt
	healthy bool
	held    holders
	wanted  bool // healthy and not held
	up      bool // the app was found reachable, and put
}

// loop follows the app until ctx ends or a drain begins.
func (r *Registrar) loop(ctx context.Context) {
	f := &follower{r: r, held: make(holders), timer: time.NewTimer(reachRetryHigh)}
	f.timer.Stop() // until an attempt has ended
	defer f.timer.Stop()
	defer func() { f.try.stop() }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.draining:
			r.because("draining")
			return
		case h := <-r.holds:
			f.held.set(h.by, h.on)
			r.held.Store(len(f.held) > 0)
			f.turn(ctx)
			close(h.done)
		case <-r.changed:
			f.turn(ctx)
		case <-f.timer.C:
			if app := r.watcher.Health().Address; f.up {
				f.try = r.beginAgain(ctx, app)
			} else {
				f.try = r.begin(ctx, app)
			}
		case <-f.try.ended():
			f.tried()
		}
	}
}

// turn registers the app or takes its registration back, as its health and the hold now say.
func (f *follower) turn(ctx context.Context) {
	r, h := f.r, f.r.watcher.Health()
	died := f.healthy && !h.Healthy
	f.healthy = h.Healthy
	wanted := h.Healthy && len(f.held) == 0
	if wanted != f.wanted {
		f.wanted = wanted
		f.try.stop()
		f.try = nil
		f.timer.Stop()
		r.retry.reset()
		f.up = false
		if wanted {
			f.try = r.begin(ctx, h.Address)
			return
		}
		r.cfg.Beater.Drop(r.key) // without waiting for the registry
	}
	if died { // an app that starts again and binds to [::] could not have the advertised address otherwise
		r.inbound.shut()
	}
	switch {
	case len(f.held) > 0:
		r.because(f.held.reason())
	case !wanted:
		r.because("the app is not healthy: " + h.Detail)
	}
}

// tried takes the outcome of an attempt.
func (f *follower) tried() {
	r, err, inst := f.r, f.try.err, f.try.inst
	f.try.stop()
	f.try = nil
	switch {
	case err == nil && !f.up:
		r.up(inst)
		f.up = true
	case err != nil && f.up:
		r.lost(err)
		f.up = false
	}
	if err != nil {
		f.timer.Reset(r.failed(err))
	} else if !r.inbound.listening() { // where we listen ourselves there is nothing to find out
		f.timer.Reset(r.again.next())
	}
}

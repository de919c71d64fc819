package registrar

import (
	"context"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// attempt makes an app that was found healthy ready to be registered: reachable, and its gRPC services known. Its methods accept nil,
// which is no attempt.
type attempt struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the rest is set
	inst   registry.Instance
	err    error
}

func (r *Registrar) begin(ctx context.Context, app string) *attempt {
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{cancel: cancel, done: make(chan struct{})}
	go r.prepare(ctx, a, app)
	return a
}

// beginAgain is an attempt for an app that is registered: it only makes sure that peers still reach it. What answered at the
// advertised address may have been somebody else's listener, such as that of an earlier process which has ended since.
func (r *Registrar) beginAgain(ctx context.Context, app string) *attempt {
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{cancel: cancel, done: make(chan struct{})}
	go r.prepareAgain(ctx, a, app)
	return a
}

func (a *attempt) ended() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.done
}

// stop ends a and waits for it, which is short: all that it does ends with its context.
func (a *attempt) stop() {
	if a != nil {
		a.cancel()
		<-a.done
	}
}

func (r *Registrar) prepare(ctx context.Context, a *attempt, app string) {
	defer close(a.done)
	a.inst = r.cfg.Instance
	if a.err = r.reach(ctx, app); a.err != nil {
		return
	}
	a.inst.GRPCServices = r.services(ctx, app)
}

func (r *Registrar) prepareAgain(ctx context.Context, a *attempt, app string) {
	defer close(a.done)
	if r.probe(ctx, r.cfg.Instance.Address) != nil {
		a.err = r.reach(ctx, app) // probes a second time: one connect may fail for a reason that passes
	}
}

// services are the app's gRPC services as configured, else as the app tells, else none: registering does not depend on them.
func (r *Registrar) services(ctx context.Context, app string) []string {
	if r.cfg.GRPCServices != nil {
		return r.cfg.GRPCServices
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ProbeTimeout)
	defer cancel()
	names, err := ListServices(ctx, app)
	if err != nil {
		r.log.Info("the app's gRPC services are not known: it does not answer reflection. Calls find it by service or route",
			"app", r.cfg.App.Name, "error", err)
	}
	return names
}

package sidecar

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registrar"
)

// drain ends our part in order, within drain.timeout: the apps are withdrawn, so that no new calls come to them; while the calls
// that they have end, they may still make calls of their own; when those have ended too, nothing is accepted any more. Part of the
// time is kept for the last step.
func (s *Sidecar) drain() {
	s.draining.Store(true)
	timeout := s.cfg.Drain.Timeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	early, cancelEarly := context.WithTimeout(ctx, timeout-min(timeout/4, time.Second))
	defer cancelEarly()
	var apps sync.WaitGroup
	for _, r := range s.registrars {
		apps.Go(func() { s.drainApp(early, r) })
	}
	apps.Wait()
	s.api.Close()
	if !s.isGateway() { // which has no app that calls until it ends
		s.awaitQuiet(early)
	}
	if err := s.engine.Drain(ctx); err != nil {
		s.log.Warn("open calls were cut off at the end of drain.timeout", "error", err)
	}
	s.accessLog.Flush()
}

func (s *Sidecar) drainApp(ctx context.Context, r *registrar.Registrar) {
	err := r.Drain(ctx)
	if errors.Is(err, registrar.ErrNotWithdrawn) {
		s.log.Warn("the app was not withdrawn in time; its lease ends the registration", "app", r.Status().App, "error", err)
	}
	if errors.Is(err, registrar.ErrConnectionsCut) {
		s.log.Warn("peers' connections to the app were cut at the end of drain.timeout", "app", r.Status().App, "error", err)
	}
}

// awaitQuiet waits until no calls are open, or ctx ends.
func (s *Sidecar) awaitQuiet(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.engine.Stats().InFlight > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

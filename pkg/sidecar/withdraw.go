package sidecar

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registrar"
)

// Accepting is closed once calls are accepted: the first view of the registry is there, or was waited for long enough.
func (s *Sidecar) Accepting() <-chan struct{} { return s.accepting }

// Who keeps apps out of the registry.
const (
	ByOperator registrar.Holder = "on request"
	ByStop     registrar.Holder = "before a stop"
	ByRestart  registrar.Holder = "while the app is restarted"
)

// Withdraw takes all apps out of the registry and keeps them out until Restore by the same holder. Calls on them go on, and so do their
// own. It returns once the registry has confirmed it and peers have had drain.settle to learn of it. A registry that does not answer
// within [admin.WithdrawTimeout] is not waited for: the leases end the registrations, and the error says so. Run has to be under way. It
// may be called again, and concurrently.
func (s *Sidecar) Withdraw(ctx context.Context, by registrar.Holder) error {
	bounded, cancel := context.WithTimeout(ctx, admin.WithdrawTimeout)
	defer cancel()
	err := s.eachApp(func(r *registrar.Registrar) error { return r.Hold(bounded, by) })
	if err != nil {
		return err
	}
	if len(s.registrars) == 0 {
		return nil
	}
	settled := time.NewTimer(s.cfg.Drain.Settle)
	defer settled.Stop()
	select {
	case <-settled.C:
	case <-ctx.Done():
	}
	return nil
}

// Restore ends a Withdraw by the same holder: healthy apps that nobody else holds are registered again, beside.
func (s *Sidecar) Restore(ctx context.Context, by registrar.Holder) error {
	return s.eachApp(func(r *registrar.Registrar) error { return r.Release(ctx, by) })
}

// Restarted says that the apps are other processes from now on: their health is asked anew.
func (s *Sidecar) Restarted(ctx context.Context) error {
	return s.eachApp(func(r *registrar.Registrar) error { return r.Forget(ctx) })
}

// holder is who asks on the control socket.
func holder(by admin.Asker) registrar.Holder {
	if by == admin.ByStop {
		return ByStop
	}
	return ByOperator
}

// eachApp does the same for all apps at once.
func (s *Sidecar) eachApp(do func(*registrar.Registrar) error) error {
	errs := make([]error, len(s.registrars))
	var all sync.WaitGroup
	for i, r := range s.registrars {
		all.Go(func() {
			if err := do(r); err != nil {
				errs[i] = fmt.Errorf("app %s: %w", r.Status().App, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// makeControl binds the control socket, where there is one. A default that cannot be bound is only a warning: it may be that this
// user cannot write there, and a sidecar without it does all but withdraw on request.
func (s *Sidecar) makeControl() error {
	said := s.cfg.Admin.Socket
	if said == "" {
		return nil
	}
	listeners, err := listen("admin.socket", "FLYPROXY_ADMIN_SOCKET", []string{said}, controlMode, s.log)
	if err != nil {
		if said == config.DefaultControlSocket && s.cfg.Source("admin.socket") == config.SourceOnFly {
			s.log.Warn("no control socket: flyproxy withdraw cannot ask this sidecar", "error", err)
			return nil
		}
		return err
	}
	s.control, err = admin.NewControl(admin.ControlConfig{
		Listener: listeners[0], Logger: s.log,
		Withdraw: func(ctx context.Context, by admin.Asker) error { return s.Withdraw(ctx, holder(by)) },
		Restore:  func(ctx context.Context, by admin.Asker) error { return s.Restore(ctx, holder(by)) },
	})
	if err != nil {
		closeAll(listeners)
		return err
	}
	s.teardown.add("control socket", s.closeControl)
	return nil
}

// controlMode lets only the user that the sidecar runs as ask it to change something.
const controlMode = 0o600

// closeControl can be called twice. Who is cut off is told by the end of the connection.
func (s *Sidecar) closeControl() error {
	if s.control == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.control.Close(ctx); err != nil {
		s.log.Debug("control socket closed", "error", err)
	}
	return nil
}

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// teardown runs what was acquired backwards. Each step is registered right after its acquisition, by name.
type teardown struct {
	log   *slog.Logger
	steps []step
}

type step struct {
	name string
	run  func() error
}

func (t *teardown) add(name string, run func() error) {
	t.steps = append(t.steps, step{name: name, run: run})
}

// run ends everything, last acquired first, and can be called twice.
func (t *teardown) run() error {
	var errs []error
	for len(t.steps) > 0 {
		last := t.steps[len(t.steps)-1]
		t.steps = t.steps[:len(t.steps)-1]
		t.log.Debug("closing", "part", last.name)
		if err := last.run(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", last.name, err))
		}
	}
	return errors.Join(errs...)
}

// tasks are the goroutines of a running sidecar. Each has a name; the first that fails ends them all.
type tasks struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

func newTasks(ctx context.Context) *tasks {
	t := &tasks{}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	return t
}

func (t *tasks) start(name string, run func(context.Context) error) {
	t.wg.Go(func() { t.run(name, run) })
}

func (t *tasks) run(name string, run func(context.Context) error) {
	if err := run(t.ctx); err != nil && t.ctx.Err() == nil {
		t.cancel(fmt.Errorf("%s: %w", name, err))
	}
}

// stop ends the tasks and waits for them. It returns what made one of them fail, if one did.
func (t *tasks) stop() error {
	t.cancel(nil)
	t.wg.Wait()
	if err := context.Cause(t.ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

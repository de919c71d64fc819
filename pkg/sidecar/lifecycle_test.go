package sidecar

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestTeardownRunsBackwardsOnceAndReportsAll(t *testing.T) {
	var order []string
	td := teardown{log: slog.New(slog.DiscardHandler)}
	for _, name := range []string{"first", "second", "third"} {
		td.add(name, func() error {
			order = append(order, name)
			if name == "first" {
				return nil
			}
			return errors.New(name + " is stuck")
		})
	}
	err := td.run()
	if !slices.Equal(order, []string{"third", "second", "first"}) {
		t.Errorf("order %v", order)
	}
	if err == nil || !strings.Contains(err.Error(), "close second: second is stuck") || !strings.Contains(err.Error(), "close third") {
		t.Errorf("error %v", err)
	}
	if err := td.run(); err != nil || len(order) != 3 {
		t.Errorf("the second run did something: %v %v", order, err)
	}
}

func TestTheFirstTaskThatFailsEndsTheOthers(t *testing.T) {
	ts := newTasks(context.Background())
	ended := false
	ts.start("waiter", func(ctx context.Context) error {
		<-ctx.Done()
		ended = true
		return ctx.Err()
	})
	boom := errors.New("boom")
	ts.start("breaker", func(context.Context) error { return boom })
	<-ts.ctx.Done()
	err := ts.stop()
	if !errors.Is(err, boom) || !strings.HasPrefix(err.Error(), "breaker: ") {
		t.Errorf("stop says %v", err)
	}
	if !ended {
		t.Error("stop did not wait for the waiter")
	}
}

func TestStoppedTasksAreNoFailure(t *testing.T) {
	ts := newTasks(context.Background())
	ts.start("waiter", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if err := ts.stop(); err != nil {
		t.Errorf("stop says %v", err)
	}
}

package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
	"github.com/flyproxy/flyproxy/pkg/supervise"
)

func newRun(sys system, file *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [flags] -- <app> [args]",
		Short: "Run the app and its sidecar together: start, registration and stop in the right order",
		Long: `Serves, as 'flyproxy serve' does, and runs the app as its child:

  start   the app is started once the sidecar accepts calls, and registered once it is healthy
  stop    on SIGTERM or SIGINT the app is taken out of the registry, peers have drain.settle to learn of it, the app gets the
          signal, and is killed if it has not ended within run.stop_timeout; then the sidecar drains
  ends    when the app ends by itself, run.restart says whether it is started again; if not, flyproxy ends with its exit code,
          128 and the signal's number if a signal has ended it

SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM and SIGWINCH are passed on. A second SIGTERM or SIGINT, a second later or more, kills the app at
once. What the app has started itself and left behind in its process group is stopped with it: so an app under a shell or npm ends in
good order too, though exec is better.

The app has flyproxy's standard input, output and error, its environment and its user. All apps of the configuration are taken for
this one command's: while it is started again, none is registered. If flyproxy is killed, the app has SIGTERM (on Linux, and only its
first process).`,
		Example: "  flyproxy run -- node dist/server.js",
		RunE:    func(cmd *cobra.Command, args []string) error { return runApp(cmd.Context(), sys, *file, args) },
	}
	takesApp(cmd)
	return cmd
}

// passedOn are the signals that a supervisor, a terminal or a person may send, and that mean the app. One that was ignored when we were
// started, as by nohup, stays so.
func passedOn() (all []os.Signal) {
	for _, sig := range []os.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH,
	} {
		if !signal.Ignored(sig) {
			all = append(all, sig)
		}
	}
	return all
}

// runApp is one sidecar and one app.
func runApp(ctx context.Context, sys system, file string, args []string) error {
	command, err := appCommand(sys, args)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedOn()...)
	defer signal.Stop(signals)
	// A signal that came before is only in ctx. One that came since is in both, and two so close together are one wish.
	defer context.AfterFunc(ctx, func() { signals <- signalOf(ctx) })()
	sys.mode = config.ModeSidecar // which who runs an app is, also where one [env] is for a gateway too
	cfg, log, err := prepare(sys, file)
	if err != nil {
		return err
	}
	s, err := sidecar.New(cfg, sidecar.Options{Logger: log, Version: versionString()})
	if err != nil {
		return err
	}
	defer adaptProcs(sys, log)()
	l := newLife(ctx, s)
	exit, err := besideSidecar(l.failed, s, cfg, command, signals, log)
	signal.Stop(signals) // from here on one more ends the process
	return l.end(exit, err, log)
}

// life is the sidecar's beside the app's. It outlives the signal: what the sidecar does at its end comes after the app's.
type life struct {
	stop   context.CancelFunc
	failed context.Context // ends when the sidecar does
	fail   context.CancelFunc
	ended  chan error // capacity 1
}

func newLife(ctx context.Context, s *sidecar.Sidecar) *life {
	l := &life{ended: make(chan error, 1)}
	ctx = context.WithoutCancel(ctx)
	l.failed, l.fail = context.WithCancel(ctx)
	ctx, l.stop = context.WithCancel(ctx)
	go l.run(ctx, s)
	return l
}

func (l *life) run(ctx context.Context, s *sidecar.Sidecar) {
	defer l.fail()
	l.ended <- s.Run(ctx)
}

// end ends the sidecar. What goes wrong with that is said, and does not hide how the app has ended; a sidecar that failed while the
// app ran is why it ended.
func (l *life) end(exit supervise.Exit, app error, log *slog.Logger) error {
	first := l.failed.Err() != nil
	l.stop()
	err := <-l.ended
	switch {
	case app != nil:
		return errors.Join(app, err)
	case err != nil && (first || exit.Code == 0):
		return err
	case err != nil:
		log.Error("the sidecar did not end in good order", "error", err)
	}
	if exit.Code != 0 {
		return exitError{code: exit.Code}
	}
	return nil
}

// besideSidecar runs the app from when the sidecar accepts calls, until it has ended for good or the sidecar has.
func besideSidecar(failed context.Context, s *sidecar.Sidecar, cfg *config.Config, command supervise.Command, signals chan os.Signal,
	log *slog.Logger,
) (supervise.Exit, error) {
	for accepting := false; !accepting; {
		select {
		case <-s.Accepting():
			accepting = true
		case <-failed.Done():
			return supervise.Exit{}, nil
		case sig := <-signals:
			if n, ok := sig.(syscall.Signal); ok && (n == syscall.SIGTERM || n == syscall.SIGINT) {
				log.Info("told to end before the app was started", "signal", sig.String())
				return supervise.Exit{Code: exitSignal + int(n), Signal: n}, nil
			}
		}
	}
	reaper := supervise.NewReaper(log)
	defer reaper.Close()
	exit, err := supervise.New(supervise.Config{
		Reaper: reaper, Command: command, Restart: supervise.Restart(cfg.Run.Restart),
		BackoffBase: cfg.Run.Backoff.Base, BackoffMax: cfg.Run.Backoff.Max, StopTimeout: cfg.Run.StopTimeout,
		Withdraw: func(ctx context.Context) error { return s.Withdraw(ctx, sidecar.ByRestart) },
		Restore: func(ctx context.Context) error {
			return errors.Join(s.Restarted(ctx), s.Restore(ctx, sidecar.ByRestart))
		},
		Logger: log,
	}).Run(failed, signals)
	if err != nil {
		return exit, startFailure(err)
	}
	return exit, nil
}

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

Other signals are passed on. The app has flyproxy's standard input, output, error and environment.`,
		Example: "  flyproxy run -- node dist/server.js",
		RunE:    func(cmd *cobra.Command, args []string) error { return runApp(cmd.Context(), sys, *file, args) },
	}
	takesApp(cmd)
	return cmd
}

// passedOn are the signals that a supervisor, a terminal or a person may send, and that mean the app.
func passedOn() []os.Signal {
	return []os.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH,
	}
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

	// The sidecar outlives the signal: what it does at its end comes after the app's.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	failed, fail := context.WithCancel(context.WithoutCancel(ctx))
	defer fail()
	ended := make(chan error, 1)
	go func() {
		defer fail()
		ended <- s.Run(life)
	}()
	exit, err := besideSidecar(failed, s, cfg, command, signals, log)
	end()
	if err := errors.Join(err, <-ended); err != nil {
		return err
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
		Withdraw: s.Withdraw, Restore: s.Restore, Logger: log,
	}).Run(failed, signals)
	if err != nil {
		return exit, startFailure(err)
	}
	return exit, nil
}

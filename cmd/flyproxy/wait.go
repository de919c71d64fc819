package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/supervise"
)

func newWait(sys system, file *string) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait [flags] -- <app> [args]",
		Short: "Start the app once the sidecar of this Machine accepts calls",
		Long: `Waits until the sidecar's port (listen) answers as an HTTP/2 server, and then becomes the app: same process, environment and output, so
that signals and exit codes are the app's own. If the sidecar does not answer within --timeout the app is not started, the exit code
is 1, and whoever started this may try again.`,
		Example: "  flyproxy wait -- node dist/server.js",
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 {
				return usageError{fmt.Errorf("--timeout is %v: write a time above 0, or 0 to wait for ever", timeout)}
			}
			return waitFor(cmd.Context(), sys, *file, timeout, args)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the sidecar; 0 is for ever")
	takesApp(cmd)
	return cmd
}

func waitFor(ctx context.Context, sys system, file string, timeout time.Duration, args []string) error {
	app, err := appCommand(sys, args)
	if err != nil {
		return err
	}
	sys.mode = config.ModeSidecar
	cfg, err := load(sys, file) // the sidecar prints the warnings
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if timeout > 0 {
		timer := time.AfterFunc(timeout, func() { stop(context.DeadlineExceeded) })
		defer timer.Stop()
	}
	if err := supervise.AwaitHTTP2(ctx, cfg.ListenAddresses()); err != nil {
		switch {
		case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
			return fmt.Errorf("wait: the sidecar does not accept calls after %v, so the app is not started: is flyproxy running, and with the "+
				"same listen? Its log says what it waits for: %w", timeout, err)
		case ctx.Err() != nil:
			return exitError{code: exitSignal + int(signalOf(ctx))} // told to end: there is nothing to say
		}
		return err
	}
	sys.stopSignals() // those that come from here on are the app's
	if ctx.Err() != nil {
		return exitError{code: exitSignal + int(signalOf(ctx))}
	}
	err = syscall.Exec(app.Path, app.Args, app.Env)
	return startFailure(supervise.StartError(app.Path, err))
}

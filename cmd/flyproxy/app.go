package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/flyproxy/flyproxy/pkg/supervise"
)

// takesApp makes cmd take the command line of an app: all from the first word on that is no flag, whether or not there is a -- before.
func takesApp(cmd *cobra.Command) {
	cmd.Flags().SetInterspersed(false)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 && args[0] != "" {
			return nil
		}
		return usageError{fmt.Errorf("no app: write its command line after --, as in: %s -- /app/server --port 50051", cmd.CommandPath())}
	}
}

// appCommand finds the app's program. It is looked for before anything begins: one that is not there would only be found out later.
func appCommand(sys system, args []string) (supervise.Command, error) {
	path, err := supervise.Look(args[0])
	if err != nil {
		return supervise.Command{}, startFailure(err)
	}
	return supervise.Command{Path: path, Args: args, Env: sys.environ}, nil
}

// startFailure gives an error of supervise its exit code.
func startFailure(err error) error {
	switch {
	case errors.Is(err, supervise.ErrNotFound):
		return exitError{exitNotFound, err}
	case errors.Is(err, supervise.ErrNotExecutable):
		return exitError{exitNotExecutable, err}
	}
	return err
}

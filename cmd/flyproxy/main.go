// Command flyproxy is a sidecar for gRPC apps: it accepts calls on localhost:50052, forwards each to the best peer, and keeps its
// own app registered.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// Exit codes, as in sysexits.h where one fits. Those of an app that cannot be started are a shell's.
const (
	exitOK     = 0
	exitFailed = 1
	exitWarned = 2 // doctor only
	exitUsage  = 64
	exitConfig = 78

	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // and the signal's number
)

func main() {
	ctx, signals := interruptible()
	os.Exit(run(ctx, os.Args[1:], system{out: os.Stdout, err: os.Stderr, environ: os.Environ(), stopSignals: signals.stop}))
}

// system is what the commands have of the world around them, so that tests can give them another.
type system struct {
	out, err io.Writer
	environ  []string // as of os.Environ
	mode     string   // what --mode says, if anything
	// stopSignals gives SIGTERM and SIGINT back, for a command that becomes another program. It can be called once.
	stopSignals func()
}

// variable gives an environment variable that is set and not empty.
func (s system) variable(name string) (value string, ok bool) {
	for _, e := range s.environ {
		if k, v, _ := strings.Cut(e, "="); k == name && v != "" {
			value, ok = v, true // the last one counts
		}
	}
	return value, ok
}

// reportedError is a failure of which everything has been said.
type reportedError struct{ error }

func (e reportedError) Unwrap() error { return e.error }

// usageError is a fault in how the command was called.
type usageError struct{ error }

// exitError ends the process with a code of its own. Without an error there is nothing to say.
type exitError struct {
	code int
	error
}

func (e exitError) Unwrap() error { return e.error }

func (e exitError) Error() string {
	if e.error == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.error.Error()
}

func run(ctx context.Context, args []string, sys system) int {
	root := newRoot(sys)
	root.SetArgs(args)
	root.SetOut(sys.out)
	root.SetErr(sys.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var reported reportedError
	var exit exitError
	if !errors.As(err, &reported) && (!errors.As(err, &exit) || exit.error != nil) {
		fmt.Fprintf(sys.err, "flyproxy: %v\n", err)
	}
	var usage usageError
	var faults *config.Error
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		fmt.Fprintln(sys.err, "See 'flyproxy --help'.")
		return exitUsage
	case errors.As(err, &faults):
		return exitConfig
	}
	return exitFailed
}

func newRoot(sys system) *cobra.Command {
	var file string
	root := &cobra.Command{
		Use:   "flyproxy",
		Short: "A sidecar for gRPC apps: dial localhost:50052, and every call reaches the best peer",
		Long: `flyproxy runs beside a gRPC app. The app dials localhost:50052 and knows nothing of discovery: flyproxy
forwards each call to the best peer that is registered in Redis, and keeps the app itself registered.

Without a command it serves.`,
		Args:          noArgs,
		SilenceErrors: true,
		// How many letters a suggestion for a mistyped command may be away.
		SuggestionsMinimumDistance: 2,
		SilenceUsage:               true,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), sys, file) },
	}
	root.PersistentFlags().StringVarP(&file, "config", "c", "", "configuration file (FLYPROXY_CONFIG; else ./flyproxy.yaml, /etc/flyproxy/flyproxy.yaml)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newServe(sys, &file), newRun(sys, &file), newWait(sys, &file), newWithdraw(sys, &file), newDemo(sys),
		newStatus(sys, &file), newDoctor(sys, &file), newConfig(sys, &file), newVersion(sys))
	return root
}

// noArgs refuses words that are no command, and names the commands that may have been meant.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	what := "argument"
	if cmd.HasAvailableSubCommands() {
		what = "command"
	}
	err := fmt.Errorf("unknown %s %q for %q", what, args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w: did you mean %q?", err, near[0])
	}
	return usageError{err}
}

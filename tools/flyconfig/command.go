package flyconfig

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// Invocation is what a command line of flyproxy asks it to do.
type Invocation struct {
	// Command is the first word after flyproxy: serve where there is none, help where it would only print that.
	Command string
	// Mode is what --mode says, or what the command implies; empty leaves it to the configuration.
	Mode string
	// Config is the file that -c names.
	Config string
	// App is the command line that run and wait start.
	App []string
}

// Serves tells whether it accepts calls.
func (i Invocation) Serves() bool { return i.Command == "serve" || i.Command == "run" }

// CommandError is about a command line that flyproxy does not take. Fix says what it would.
type CommandError struct{ Problem, Fix string }

func (e *CommandError) Error() string { return e.Problem }

// IsFlyproxy tells whether a command line starts flyproxy.
func IsFlyproxy(line []string) bool { return len(line) > 0 && path.Base(line[0]) == "flyproxy" }

// ParseCommand reads a command line whose first word is flyproxy, as flyproxy would. The error is a [*CommandError].
func ParseCommand(line []string) (Invocation, error) {
	var inv Invocation
	root := commandTree(&inv)
	root.SetArgs(line[1:])
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if cmd == root && !strings.HasPrefix(line[1], "-") { // the flags are those of a command that there is not
			return noWords(root, line[1:])
		}
		return err
	})
	if err := root.Execute(); err != nil {
		var wrong *CommandError
		if errors.As(err, &wrong) {
			return inv, wrong
		}
		return inv, &CommandError{err.Error(), "write it as flyproxy's --help has it"}
	}
	return inv, nil
}

// commandTree has those commands of flyproxy that can be a Machine's, with their flags, and the others by name. Executing it fills inv
// and does nothing else. A test holds it against the binary.
func commandTree(inv *Invocation) *cobra.Command {
	root := &cobra.Command{Use: "flyproxy", SilenceErrors: true, SilenceUsage: true, Args: noWords, SuggestionsMinimumDistance: 2}
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	root.CompletionOptions.DisableDefaultCmd = true // it is below, without its subcommands
	root.PersistentFlags().StringVarP(&inv.Config, "config", "c", "", "")
	root.RunE = func(*cobra.Command, []string) error { inv.Command = "serve"; return nil }
	root.SetHelpFunc(func(*cobra.Command, []string) { inv.Command = "help" })
	add := func(name string, run func() error) *cobra.Command {
		cmd := &cobra.Command{Use: name, Args: noWords}
		cmd.RunE = func(_ *cobra.Command, words []string) error {
			inv.Command, inv.App = name, words
			if run == nil {
				return nil
			}
			return run()
		}
		root.AddCommand(cmd)
		return cmd
	}
	for _, name := range []string{"completion", "config", "demo", "doctor", "status", "version"} { // which end by themselves
		add(name, nil).FParseErrWhitelist.UnknownFlags = true
	}

	var mode, socket string
	var timeout time.Duration
	serve := add("serve", func() error {
		if inv.Mode = mode; mode != "" && mode != config.ModeSidecar && mode != config.ModeGateway {
			return &CommandError{fmt.Sprintf("--mode is %q", mode), "write sidecar or gateway"}
		}
		return nil
	})
	serve.Flags().StringVar(&mode, "mode", "", "")
	takesApp(add("run", func() error { inv.Mode = config.ModeSidecar; return nil }))
	wait := takesApp(add("wait", nil))
	wait.Flags().DurationVar(&timeout, "timeout", 0, "")
	withdraw := add("withdraw", nil)
	withdraw.Flags().StringVar(&socket, "socket", "", "")
	withdraw.Flags().Bool("now", false, "")
	withdraw.Flags().Bool("undo", false, "")
	return root
}

// takesApp lets a command take all from the first word on that is no flag.
func takesApp(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().SetInterspersed(false)
	cmd.Args = func(_ *cobra.Command, app []string) error {
		if len(app) == 0 || app[0] == "" {
			return &CommandError{cmd.CommandPath() + " without an app to start", "write its command after --, as in " + cmd.CommandPath() + " -- app"}
		}
		return nil
	}
	return cmd
}

func noWords(cmd *cobra.Command, words []string) error {
	if len(words) == 0 {
		return nil
	}
	if cmd.HasParent() {
		return &CommandError{fmt.Sprintf("%s takes no %q", cmd.CommandPath(), words[0]), "remove it"}
	}
	fix := "write one of serve, run"
	if near := cmd.SuggestionsFor(words[0]); len(near) > 0 {
		fix = "did you mean " + strings.Join(near, ", ") + "?"
	}
	return &CommandError{fmt.Sprintf("flyproxy has no command %q", words[0]), fix}
}

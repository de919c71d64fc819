package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/config"
)

func newStatus(sys system, file *string) *cobra.Command {
	var addr string
	var asJSON, watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster as a running sidecar sees it",
		Long: `Asks the admin listener of a running flyproxy, by default the one of this Machine, and shows a table of all
instances: where they are, how they are, their load, and what this sidecar itself sees of them.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if addr == "" {
				addr = adminAddress(sys, *file)
			}
			ask := func(ctx context.Context, w io.Writer) error { return status(ctx, sys, w, addr, asJSON) }
			if watch {
				return watchStatus(cmd.Context(), sys, ask, every)
			}
			return ask(cmd.Context(), sys.out)
		},
		PreRunE: func(*cobra.Command, []string) error {
			if asJSON && watch {
				return usageError{fmt.Errorf("--json and --watch exclude each other")}
			}
			if every < 100*time.Millisecond {
				return usageError{fmt.Errorf("--interval is %v: 100ms at the least", every)}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&addr, "addr", "", "admin listener to ask, host:port (default: admin.listen)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what the admin listener answers")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until Ctrl-C")
	cmd.Flags().DurationVar(&every, "interval", 2*time.Second, "time between two, with --watch")
	return cmd
}

// adminAddress is where the sidecar of this Machine listens. A configuration with faults still has a default to try: status is
// what one runs when something is wrong.
func adminAddress(sys system, file string) string {
	cfg, err := config.Load(config.Options{Path: file, Environ: sys.environ})
	if err == nil {
		return cfg.Admin.Listen
	}
	if v, ok := sys.variable("FLYPROXY_ADMIN_LISTEN"); ok {
		return v
	}
	return "127.0.0.1:9052"
}

// status asks once and shows the answer.
func status(ctx context.Context, sys system, w io.Writer, addr string, asJSON bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	st, err := admin.FetchStatus(ctx, addr)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(st)
	}
	width, _, color := terminal(sys)
	return admin.RenderStatus(w, st, admin.RenderOptions{Width: width, Color: color, Now: time.Now()})
}

// watchStatus shows the status again and again. What goes wrong is shown too: it may get better.
func watchStatus(ctx context.Context, sys system, ask func(context.Context, io.Writer) error, every time.Duration) error {
	screen := admin.NewScreen(sys.out)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		var frame bytes.Buffer
		fmt.Fprintf(&frame, "every %v, %s; Ctrl-C ends\n\n", every, time.Now().Format(time.TimeOnly))
		if err := ask(ctx, &frame); err != nil && ctx.Err() == nil {
			fmt.Fprintln(&frame, err)
		}
		if ctx.Err() != nil {
			return nil
		}
		_, height, _ := terminal(sys)
		if err := screen.Draw(frame.Bytes(), height); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// terminal gives the size of the terminal that standard output is, zeros where it is none, and whether colours are welcome there
// (https://no-color.org).
func terminal(sys system) (width, height int, color bool) {
	f, ok := sys.out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width, height = 80, 0
	}
	plain := slices.ContainsFunc(sys.environ, func(e string) bool {
		return e == "TERM=dumb" || strings.HasPrefix(e, "NO_COLOR=") && e != "NO_COLOR="
	})
	return width, height, !plain
}

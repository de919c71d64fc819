package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/fly"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

func newServe(sys system, file *string) *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Accept calls, forward them to peers, keep the app registered (the default command)",
		Long: `Accepts calls and forwards each to the best peer.

As a sidecar it runs beside an app, takes calls on localhost:50052, and keeps the app registered. As a gateway it runs in Machines of
its own, takes calls over the private network on fly-local-6pn:50052 ([::]:50052 where that name is unknown) from clients in
downstream.allowed_networks, with TLS if downstream.tls says so, and registers nothing. Apps without a sidecar then dial
gateway.process.<app>.internal:50052, if the process group is named gateway.`,
		Args: noArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("mode") && mode != config.ModeSidecar && mode != config.ModeGateway {
				return usageError{fmt.Errorf("--mode is %q: write sidecar or gateway", mode)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			sys.mode = mode
			return serve(cmd.Context(), sys, *file)
		},
	}
	cmd.Flags().StringVar(&mode, "mode", "", "sidecar or gateway; beats the configuration's mode (FLYPROXY_MODE)")
	return cmd
}

func serve(ctx context.Context, sys system, file string) error {
	cfg, log, err := prepare(sys, file)
	if err != nil {
		return err
	}
	s, err := sidecar.New(cfg, sidecar.Options{Logger: log, Version: versionString()})
	if err != nil {
		return err
	}
	defer adaptProcs(sys, log)()
	return s.Run(ctx)
}

// prepare loads the configuration of a process that is to serve, and does as it says for the process as a whole.
func prepare(sys system, file string) (*config.Config, *slog.Logger, error) {
	cfg, err := loadConfig(sys, file)
	if err != nil {
		return nil, nil, err
	}
	log, err := newLogger(sys.err, cfg.Log.Format, cfg.Log.Level, cfg.Fly.OnFly)
	if err != nil {
		return nil, nil, err
	}
	limitMemory(cfg, sys, log)
	return cfg, log, nil
}

// limitMemory makes the garbage collector work harder before the sidecar takes memory that its app needs.
func limitMemory(cfg *config.Config, sys system, log *slog.Logger) {
	if _, told := sys.variable("GOMEMLIMIT"); told {
		return // the user's word, which the runtime has read already
	}
	limit := fly.MemoryLimit(cfg.Fly.MemoryMB, cfg.Limits.MemoryShare)
	if limit == math.MaxInt64 {
		return
	}
	debug.SetMemoryLimit(limit)
	log.Debug("memory limit set", "bytes", limit, "share", cfg.Limits.MemoryShare, "machine_mb", cfg.Fly.MemoryMB)
}

func newLogger(w io.Writer, format, level string, onFly bool) (*slog.Logger, error) {
	least, err := telemetry.ParseLevel(level)
	if err != nil {
		return nil, err
	}
	file, ok := w.(*os.File)
	log, _ := telemetry.NewLogger(w, format, least, onFly, ok && telemetry.IsTerminal(file))
	return log, nil
}

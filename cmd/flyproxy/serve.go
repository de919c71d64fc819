package main

import (
	"context"
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
	return &cobra.Command{
		Use:   "serve",
		Short: "Accept calls, forward them to peers, keep the app registered (the default command)",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), sys, *file) },
	}
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

package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/flyproxy/flyproxy/pkg/demo"
	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

func newDemo(sys system) *cobra.Command {
	var length time.Duration
	var verbose bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: six apps in three regions, a sidecar each, a call a second",
		Long: `Runs the whole of flyproxy on this machine: an embedded Redis, six instances of a small gRPC app in three regions,
a sidecar beside each. It calls localhost:50052 once a second and shows which instance answered, while it stops an
instance and starts it again. With --for it ends by itself, and exits with 0 only if no call failed. FLYPROXY_ENGINE
chooses the data plane; nothing else in the environment, and no file, changes what the demo does.`,
		Args: noArgs,
		PreRunE: func(*cobra.Command, []string) error {
			if length < 0 {
				return usageError{fmt.Errorf("--for is %v: a time such as 10s", length)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			engine, _ := sys.variable("FLYPROXY_ENGINE")
			log := slog.New(slog.DiscardHandler)
			if verbose {
				var err error
				if log, err = newLogger(sys.err, telemetry.FormatText, "info", false); err != nil {
					return err
				}
			}
			return demo.Run(cmd.Context(), demo.Options{
				For: length, Out: sys.out, Logger: log, Version: versionString(), Engine: engine,
				Port: demo.DefaultPort, AdminPort: demo.DefaultAdminPort, RedisPort: demo.DefaultRedisPort,
			})
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "end after this time, such as 10s (default: until Ctrl-C)")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also show what the sidecars log")
	return cmd
}

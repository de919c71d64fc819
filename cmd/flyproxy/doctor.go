package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/doctor"
)

func newDoctor(sys system, file *string) *cobra.Command {
	var asJSON bool
	var mode string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong, and say what to do about it",
		Long: `Walks everything that can be wrong on this Machine: configuration, identity, ports, the app and its health service,
Redis, our own record, each peer, names. It only looks: nothing is registered and nothing in Redis is changed.

Run it where flyproxy runs, with the same environment and --config: on Fly, in fly ssh console. Without --mode, the mode is that of
the flyproxy that runs.

Exit code: 0 when all is well or there are notes only, 2 for warnings, 1 for errors, 78 when the configuration has faults.
docs/troubleshooting.md says of each finding what it means.`,
		Args: noArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("mode") && mode != config.ModeSidecar && mode != config.ModeGateway {
				return usageError{fmt.Errorf("--mode is %q: write sidecar or gateway", mode)}
			}
			if timeout < time.Second || timeout > 10*time.Minute {
				return usageError{fmt.Errorf("--timeout is %v: from 1s to 10m", timeout)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := os.Hostname()
			if err != nil {
				host = "localhost" // only a part of a generated id
			}
			report := doctor.Run(cmd.Context(), doctor.Options{
				Config:  config.Options{Path: *file, Mode: mode, Environ: sys.environ, Hostname: host},
				Version: versionString(), Timeout: timeout,
			})
			if err := writeReport(sys, &report, asJSON); err != nil {
				return err
			}
			return verdict(&report)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().StringVar(&mode, "mode", "", "sidecar or gateway; without it, as the flyproxy that runs or, if none does, the configuration")
	cmd.Flags().DurationVar(&timeout, "timeout", doctor.DefaultTimeout, "time that all of it may take")
	return cmd
}

func writeReport(sys system, report *doctor.Report, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(sys.out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(report)
	}
	width, _, color := terminal(sys)
	return doctor.Render(sys.out, report, doctor.RenderOptions{Width: width, Color: color})
}

// verdict turns the worst finding into what the command exits with. Everything has been said by then.
func verdict(report *doctor.Report) error {
	switch {
	case !report.ConfigurationUsable:
		return exitError{code: exitConfig}
	case report.Worst == doctor.Error:
		return exitError{code: exitFailed}
	case report.Worst == doctor.Warning:
		return exitError{code: exitWarned}
	}
	return nil
}

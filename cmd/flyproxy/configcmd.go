package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/flyproxy/flyproxy/pkg/config"
)

func newConfig(sys system, file *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration, print what is in force, or list the keys",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "Say everything that is wrong with the configuration; exit 78 if anything is",
			Args:  noArgs,
			RunE: func(*cobra.Command, []string) error {
				cfg, err := load(sys, *file)
				if writeErr := config.WriteCheck(sys.out, cfg, err); writeErr != nil {
					return writeErr
				}
				if err != nil {
					return reportedError{err}
				}
				return nil
			},
		},
		&cobra.Command{
			Use:   "print",
			Short: "Print every value in force and where it comes from, secrets masked",
			Args:  noArgs,
			RunE: func(*cobra.Command, []string) error {
				cfg, err := loadConfig(sys, *file)
				if err != nil {
					return err
				}
				return cfg.Print(sys.out)
			},
		},
		&cobra.Command{
			Use:   "keys",
			Short: "List every key, its environment variable, its default and what it is",
			Args:  noArgs,
			RunE:  func(*cobra.Command, []string) error { return config.PrintKeys(sys.out) },
		},
	)
	return cmd
}

func load(sys system, file string) (*config.Config, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost" // only a part of a generated id
	}
	return config.Load(config.Options{Path: file, Mode: sys.mode, Environ: sys.environ, Hostname: host})
}

// loadConfig loads the configuration and prints its warnings.
func loadConfig(sys system, file string) (*config.Config, error) {
	cfg, err := load(sys, file)
	if err != nil {
		return nil, err
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(sys.err, "warning:", w)
	}
	return cfg, nil
}

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/config"
)

func newWithdraw(sys system, file *string) *cobra.Command {
	var socket string
	var now, undo bool
	cmd := &cobra.Command{
		Use:   "withdraw",
		Short: "Take the apps of the running sidecar out of the registry before they are stopped",
		Long: `Waits until it is told to end (SIGTERM or SIGINT). Then it asks the sidecar of this Machine, on its control socket (admin.socket), to
take the apps out of the registry, and ends once peers have had time to learn of it (drain.settle). Calls go on meanwhile.

So, as a program of supervisord with the highest priority, which is stopped first, it makes a stop orderly: no new calls come, then the
app is stopped, then the sidecar.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if now && undo {
				return usageError{errors.New("--now and --undo exclude each other")}
			}
			return withdraw(cmd.Context(), sys, *file, socket, now, undo)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "the sidecar's control socket, unix:///path (default: admin.socket)")
	cmd.Flags().BoolVar(&now, "now", false, "do not wait to be told to end: withdraw now")
	cmd.Flags().BoolVar(&undo, "undo", false, "take a withdrawal back: the apps are registered again once they are healthy")
	return cmd
}

func withdraw(ctx context.Context, sys system, file, socket string, now, undo bool) error {
	sys.mode = config.ModeSidecar
	cfg, err := load(sys, file) // the sidecar prints the warnings
	if err != nil {
		return err
	}
	if socket == "" {
		socket = cfg.Admin.Socket
	}
	waits := !now && !undo
	if socket == "" {
		err := exitError{exitConfig, errors.New("admin.socket is not set, so the sidecar has no control socket, and nobody can be withdrawn: " +
			"set it (FLYPROXY_ADMIN_SOCKET) to " + config.DefaultControlSocket + " for both, or name the socket with --socket")}
		if waits { // the app and its sidecar do without: whoever watches over programs must not end them because of this one
			fmt.Fprintln(sys.err, "flyproxy:", err)
			<-ctx.Done()
			return reportedError{err}
		}
		return err
	}
	path, ok := config.SocketPath(socket)
	if !ok {
		return usageError{fmt.Errorf("--socket %s: write unix:// and an absolute path, such as %s", socket, config.DefaultControlSocket)}
	}
	if waits {
		// What another such program has withdrawn before it was ended, alone, is taken back: this one is here now. A sidecar that is not
		// there yet has nothing to take back.
		again, cancel := context.WithTimeout(ctx, admin.ControlTimeout(0))
		_ = admin.AskControl(again, path, admin.PathRestore, admin.ByStop)
		cancel()
		<-ctx.Done()
	}
	// What is left to do comes after the signal; a second one ends the process.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), admin.ControlTimeout(cfg.Drain.Settle))
	defer cancel()
	ask := func(what string, by admin.Asker) error {
		if err := admin.AskControl(ctx, path, what, by); err != nil {
			return fmt.Errorf("withdraw: %w", err)
		}
		return nil
	}
	said := "withdrawn: peers have had time to learn of it"
	switch {
	case undo:
		said = "a withdrawal is taken back: the apps are registered again once they are healthy"
		err = errors.Join(ask(admin.PathRestore, admin.ByOperator), ask(admin.PathRestore, admin.ByStop))
	case now:
		err = ask(admin.PathWithdraw, admin.ByOperator)
	default:
		err = ask(admin.PathWithdraw, admin.ByStop)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(sys.err, "flyproxy:", said)
	return nil
}

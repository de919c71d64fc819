package sidecar

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/downstream"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
)

// isGateway tells whether we are a gateway: without apps, for clients on other Machines.
func (s *Sidecar) isGateway() bool { return s.cfg.Mode == config.ModeGateway }

// guard lets a gateway's listeners take clients only as downstream says.
func (s *Sidecar) guard() error {
	if !s.isGateway() {
		return nil
	}
	cfg := downstream.Config{
		Networks: s.cfg.Downstream.Networks(), HandshakeTimeout: s.cfg.Limits.HandshakeTimeout, MaxHandshakes: s.cfg.Limits.MaxConnections,
		Logger: s.log,
	}
	if t := s.cfg.Downstream.TLS; t.Enabled {
		files, err := tlsfiles.NewServer(tlsfiles.ServerConfig{
			CertFile: t.CertFile, KeyFile: t.KeyFile, ClientCAFile: t.ClientCAFile, Logger: s.log,
		})
		if err != nil {
			return fmt.Errorf("downstream.tls: %w", err)
		}
		cfg.TLS, s.serverTLS = files.TLS, files
	}
	s.gate = downstream.New(cfg)
	guarded := make([]net.Listener, 0, len(s.listeners))
	for _, lis := range s.listeners {
		guarded = append(guarded, s.gate.Guard(lis))
	}
	s.listeners = guarded
	s.teardown.add("guarded listeners", func() error { closeAll(guarded); return nil })
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "a gateway: it registers nothing, and takes calls from these networks",
		slog.Any("allowed", cfg.Networks), slog.Bool("tls", s.cfg.Downstream.TLS.Enabled),
		slog.Bool("client_certificates", s.cfg.Downstream.TLS.ClientCAFile != ""))
	return nil
}

// refusedClients counts the clients that were turned away; nil where all that connect are taken.
func (s *Sidecar) refusedClients() func() map[string]uint64 {
	if s.gate == nil {
		return nil
	}
	return s.gate.Refused
}

package sidecar

import (
	"fmt"

	"github.com/flyproxy/flyproxy/pkg/api"
	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
)

// makeEngine makes the data plane that the configuration names.
func (s *Sidecar) makeEngine() (err error) {
	s.api = api.New(api.Config{Views: s.discovery, Service: s.cfg.Service, Self: s.self(), Logger: s.log})
	make := s.makeRelay
	if s.cfg.Engine == config.EngineGRPC {
		make = s.makeGRPCEngine
	}
	if s.engine, err = make(); err != nil {
		return err
	}
	s.teardown.add("engine", s.engine.Close)
	s.engine.Register(s.api.Register)
	return nil
}

// makeTLS reads the files for TLS towards peers.
func (s *Sidecar) makeTLS() error {
	cfg := s.cfg.Upstream.TLS
	if !cfg.Enabled {
		return nil
	}
	files, err := tlsfiles.New(tlsfiles.Config{
		CAFile: cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, ServerName: cfg.ServerName, Logger: s.log,
	})
	if err != nil {
		return fmt.Errorf("upstream.tls: %w", err)
	}
	s.tls = files.TLS
	return nil
}

func (s *Sidecar) makeRelay() (engine.Engine, error) { return relay.New(s.relayConfig()) }

// relayConfig gives the relay every value, so that the defaults in force are those of the configuration, whatever the relay's are.
func (s *Sidecar) relayConfig() relay.Config {
	up, limits, retry := s.cfg.Upstream, s.cfg.Limits, s.cfg.Retry
	return relay.Config{
		Router:         s.router,
		ConnectTimeout: up.ConnectTimeout, MaxConnectionsPerPeer: up.MaxConnectionsPerPeer,
		IdleTimeout: up.IdleTimeout, DeadAfter: up.DeadAfter,
		AllowedNetworks: s.allowedNetworks(), Own: s.loops.ours, TLS: s.tls,
		Limits: relay.Limits{
			HeaderBytes: uint32(limits.MaxHeaderBytes), StreamsPerConnection: uint32(limits.MaxConcurrentStreams),
			Calls: limits.MaxCalls, Connections: limits.MaxConnections,
			BufferedBytes: int64(limits.MaxBufferedBytes), ReplayBytes: int64(limits.MaxReplayBytes),
			ResetsPerSecond: limits.MaxResetsPerSecond, ControlFrames: limits.MaxQueuedControlFrames,
			HandshakeTimeout: limits.HandshakeTimeout, ClientIdleTimeout: limits.ClientIdleTimeout,
		},
		Retry:    relay.Retry{Methods: retry.Methods, Attempts: retry.Attempts, Budget: retry.Budget},
		Observer: calls{s.metrics, s.accessLog}, Logger: s.log,
	}
}

func (s *Sidecar) makeGRPCEngine() (engine.Engine, error) {
	up, limits := s.cfg.Upstream, s.cfg.Limits
	return grpcengine.New(grpcengine.Config{
		Router:         s.router,
		ConnectTimeout: up.ConnectTimeout, MaxConnectionsPerPeer: up.MaxConnectionsPerPeer,
		IdleTimeout: up.IdleTimeout, DeadAfter: up.DeadAfter,
		MaxHeaderBytes: uint32(limits.MaxHeaderBytes), MaxConcurrentStreams: uint32(limits.MaxConcurrentStreams),
		AllowedNetworks: s.allowedNetworks(), Own: s.loops.ours, TLS: s.tls,
		Observer: calls{s.metrics, s.accessLog}, Logger: s.log,
	})
}

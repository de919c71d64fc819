package sidecar

import (
	"github.com/flyproxy/flyproxy/pkg/api"
	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/telemetry"
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

func (s *Sidecar) makeRelay() (engine.Engine, error) {
	up, limits := s.cfg.Upstream, s.cfg.Limits
	return relay.New(relay.Config{
		Router:         s.router,
		ConnectTimeout: up.ConnectTimeout, MaxConnectionsPerPeer: up.MaxConnectionsPerPeer,
		IdleTimeout: up.IdleTimeout, DeadAfter: up.DeadAfter,
		AllowedNetworks: s.allowedNetworks(),
		Limits: relay.Limits{
			HeaderBytes: uint32(limits.MaxHeaderBytes), StreamsPerConnection: uint32(limits.MaxConcurrentStreams),
		},
		Observer: calls{s.metrics}, Logger: s.log,
	})
}

func (s *Sidecar) makeGRPCEngine() (engine.Engine, error) {
	up, limits := s.cfg.Upstream, s.cfg.Limits
	return grpcengine.New(grpcengine.Config{
		Router:         s.router,
		ConnectTimeout: up.ConnectTimeout, MaxConnectionsPerPeer: up.MaxConnectionsPerPeer,
		IdleTimeout: up.IdleTimeout, DeadAfter: up.DeadAfter,
		MaxHeaderBytes: uint32(limits.MaxHeaderBytes), MaxConcurrentStreams: uint32(limits.MaxConcurrentStreams),
		AllowedNetworks: s.allowedNetworks(), Observer: calls{s.metrics}, Logger: s.log,
	})
}

// calls tells the metrics of every call.
type calls struct{ *telemetry.Metrics }

// CallEnded implements engine.Observer.
func (c calls) CallEnded(i engine.CallInfo) {
	c.Metrics.CallEnded(i.Service, i.Method, uint32(i.Code), i.PeerRegion, i.Latency)
}

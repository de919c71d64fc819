package sidecar

import (
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

// peerLinks is what there is to one peer.
type peerLinks struct {
	connections int           // open ones, those that take no new calls included
	rtt         time.Duration // 0: not known
}

// links gives what there is to each peer.
func (s *Sidecar) links() map[registry.Key]peerLinks {
	m := make(map[registry.Key]peerLinks)
	for _, p := range s.engine.Stats().Peers {
		l := m[p.Key]
		l.connections += p.Ready + p.Silent
		l.rtt = max(l.rtt, p.RTT)
		m[p.Key] = l
	}
	return m
}

// connections is the number of open connections to peers.
func (s *Sidecar) connections() int {
	stats := s.engine.Stats()
	return stats.Connections()
}

// engineState is the data plane for metrics.
func (s *Sidecar) engineState() telemetry.EngineState {
	stats := s.engine.Stats()
	st := telemetry.EngineState{
		ClientConnections: stats.Clients, PeerConnections: connectionStates(stats.Peers), PeerRTT: longestRTT(stats.Peers),
		LimitHits: stats.Limits, Retries: stats.Retries,
	}
	if s.cfg.Engine == config.EngineRelay { // the other one does not know
		st.Held = &telemetry.HeldBytes{Buffered: stats.BufferedBytes, Replay: stats.ReplayBytes}
	}
	return st
}

// connectionStates counts the connections to peers by state. A state without a connection counts as 0, so that a series does not
// vanish with its last connection.
func connectionStates(peers []engine.PeerConnections) map[string]int {
	m := map[string]int{"ready": 0, "connecting": 0, "idle": 0, "failed": 0, "silent": 0}
	for _, p := range peers {
		m["ready"] += p.Ready
		m["connecting"] += p.Connecting
		m["idle"] += p.Idle
		m["failed"] += p.Failed
		m["silent"] += p.Silent
	}
	return m
}

func longestRTT(peers []engine.PeerConnections) map[string]time.Duration {
	m := make(map[string]time.Duration)
	for _, p := range peers {
		if p.RTT > 0 {
			m[p.Region] = max(m[p.Region], p.RTT)
		}
	}
	return m
}

package sidecar

import "github.com/flyproxy/flyproxy/pkg/registry"

// peerConnections counts the open connections to each peer.
func (s *Sidecar) peerConnections() map[registry.Key]int {
	m := make(map[registry.Key]int)
	for _, p := range s.engine.Stats().Peers {
		m[p.Key] += p.Ready
	}
	return m
}

// connections is the number of open connections to peers.
func (s *Sidecar) connections() int {
	stats := s.engine.Stats()
	return stats.Connections()
}

// connectionStates counts the connections to peers by state, for metrics. A state without a connection counts as 0, so that a
// series does not vanish with its last connection.
func (s *Sidecar) connectionStates() map[string]int {
	m := map[string]int{"ready": 0, "connecting": 0, "idle": 0, "failed": 0}
	for _, p := range s.engine.Stats().Peers {
		m["ready"] += p.Ready
		m["connecting"] += p.Connecting
		m["idle"] += p.Idle
		m["failed"] += p.Failed
	}
	return m
}

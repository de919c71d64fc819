package grpcengine

import "github.com/flyproxy/flyproxy/pkg/engine"

// Stats gives the engine's state.
func (e *Engine) Stats() engine.Stats {
	return engine.Stats{
		InFlight: e.inFlight.Load(), Clients: int(e.clients.Load()), DroppedMetadata: e.dropped.Load(), Peers: e.pool.stats(),
	}
}

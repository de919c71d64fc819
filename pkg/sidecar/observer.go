package sidecar

import (
	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

// calls tells the metrics and the access log of every call. It is what both engines have as their observer.
type calls struct {
	metrics *telemetry.Metrics
	log     *telemetry.AccessLog
}

var _ engine.Observer = calls{}

// CallStarted implements engine.Observer.
func (c calls) CallStarted() { c.metrics.CallStarted() }

// CallEnded implements engine.Observer. It allocates nothing for a call that is neither slow nor failed, once the metrics have seen
// its names.
func (c calls) CallEnded(i engine.CallInfo) {
	c.metrics.CallEnded(i.Service, i.Method, uint32(i.Code), i.PeerRegion, i.Latency)
	c.log.CallEnded(telemetry.Call{
		Service: i.Service, Method: i.Method, Code: uint32(i.Code), Peer: i.PeerID, Region: i.PeerRegion, Latency: i.Latency,
		Attempts: i.Attempts,
	})
}

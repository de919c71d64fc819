package grpcengine

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Observer is told of every call that is forwarded. Its methods are called concurrently, on the way of the call: they must be quick.
type Observer interface {
	CallStarted()
	// CallEnded is called once for each CallStarted.
	CallEnded(CallInfo)
}

// CallInfo says how a call went.
type CallInfo struct {
	// Service is flyproxy's service as the router found it, also when it has no peer; empty when nothing says which it is.
	Service string
	// Method is the full gRPC method, /package.Service/Method, as the client sent it: not to be trusted as a label.
	Method string
	// Code is what the client got, or would have got had it waited.
	Code codes.Code
	// PeerID and PeerRegion name the instance that was sent the call last; empty when none was.
	PeerID, PeerRegion string
	// Latency is from the client's headers to the end of the call.
	Latency time.Duration
	// Attempts is how many peers the router gave for this call, without those that had no room.
	Attempts int
}

// Stats is the engine's state at one moment.
type Stats struct {
	// InFlight is the number of calls that are being forwarded.
	InFlight int64
	// DroppedMetadata is how many metadata entries were dropped so far because grpc-go would have failed the call over them.
	DroppedMetadata uint64
	// Peers has an entry for each peer to which there is, or was lately, a connection.
	Peers []PeerConnections
}

// PeerConnections counts the connections to one peer by state.
type PeerConnections struct {
	Key     registry.Key
	Region  string
	Address string
	// Ready ones take calls; Idle ones would be opened by the next; Failed ones wait for the next attempt.
	Ready, Connecting, Idle, Failed int
	// Streams is the number of calls on them, Waiting of those that wait for a connection or for room on one.
	Streams, Waiting int
}

// Connections is the number of open connections to peers.
func (s Stats) Connections() int {
	n := 0
	for i := range s.Peers {
		n += s.Peers[i].Ready
	}
	return n
}

// Stats gives the engine's state.
func (e *Engine) Stats() Stats {
	return Stats{InFlight: e.inFlight.Load(), DroppedMetadata: e.dropped.Load(), Peers: e.pool.stats()}
}

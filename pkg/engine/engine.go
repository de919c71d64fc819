// Package engine is the contract of the two data planes: what whoever runs one may rely on, whichever it is.
//
// pkg/relay and pkg/grpcengine implement it. Both ask the same router, tell the same observer, and have the same life.
package engine

import (
	"context"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// ErrOwnListener says that a peer's address, once its name is resolved, is one that we ourselves listen on: calls would come round again.
var ErrOwnListener = errors.New("the address is our own listener")

// Engine forwards calls. Its methods may be called concurrently, Register and Serve once each.
type Engine interface {
	// Register lets f put services on the engine that it answers itself. It comes before Serve.
	Register(f func(grpc.ServiceRegistrar))
	// Serve accepts on all the listeners until Drain or Close, which end it with nil. When one of them fails it stops the others and
	// gives that error. It closes the listeners.
	Serve(listeners ...net.Listener) error
	// Drain tells clients to go (GOAWAY), lets their open calls end until ctx does, then cuts what is left and gives ctx's error.
	Drain(ctx context.Context) error
	// Close cuts what is open and frees everything. It may be called twice.
	Close() error
	// Stats gives the engine's state.
	Stats() Stats
}

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
	// Method is the full gRPC method, /package.Service/Method, as the client sent it: not to be trusted as a label. Like the other
	// strings it is valid only until CallEnded returns, unless it is cloned.
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

// Stats is an engine's state at one moment.
type Stats struct {
	// InFlight is the number of calls that are being forwarded.
	InFlight int64
	// Clients is the number of open connections from clients.
	Clients int
	// BufferedBytes is how much DATA is held that the other side's socket has not taken yet, replay buffers not counted; ReplayBytes
	// is what those hold. An engine that does not know gives 0.
	BufferedBytes, ReplayBytes int64
	// DroppedMetadata is how many metadata entries were dropped so far because grpc-go would have failed the call over them.
	DroppedMetadata uint64
	// Limits counts, by the key of the configuration without its "limits.", how often each limit was hit so far.
	Limits map[string]uint64
	// Retries counts, by reason (not_sent, unprocessed, refused, policy), the attempts beyond a call's first.
	Retries map[string]uint64
	// Peers has an entry for each peer to which there is, or was lately, a connection.
	Peers []PeerConnections
}

// PeerConnections counts the connections to one peer by state.
type PeerConnections struct {
	Key     registry.Key
	Region  string
	Address string
	// Ready ones take calls; Idle ones would be opened by the next; Failed ones wait for the next attempt; Silent ones have calls
	// that the peer does not acknowledge, and take no new ones.
	Ready, Connecting, Idle, Failed, Silent int
	// Streams is the number of calls on them, Waiting of those that wait for a connection or for room on one.
	Streams, Waiting int
	// RTT is the smoothed round-trip time of the path as the kernel measures it (TCP_INFO, tcpi_rtt); 0 when it is not known.
	RTT time.Duration
}

// Connections is the number of open connections to peers.
func (s Stats) Connections() int {
	n := 0
	for i := range s.Peers {
		n += s.Peers[i].Ready
	}
	return n
}

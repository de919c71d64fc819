package enginetest

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// Subject is a data plane under test.
type Subject struct {
	// New makes an engine with these options, or fails the test.
	New func(t testing.TB, o Options) engine.Engine
	// Guard, if not nil, puts something between the clients and the engine, such as TLS: clients dial the listener given, and the engine
	// serves the one returned, which it closes.
	Guard func(t testing.TB, lis net.Listener) net.Listener
	Differences
}

// Options are what the suite asks of an engine. Zero values are the engine's own defaults, except Router, which is always set.
type Options struct {
	// Router chooses the peer of every call. The engine registers itself with its OnRemove.
	Router *routing.Router
	// Observer is told of every call that is forwarded.
	Observer engine.Observer
	// ConnectTimeout bounds one attempt to connect to a peer, until its first SETTINGS.
	ConnectTimeout time.Duration
	// MaxConnectionsPerPeer bounds the connections to one peer; at the bound, calls wait for room.
	MaxConnectionsPerPeer int
	// IdleTimeout is how long a peer's connections are kept without a call.
	IdleTimeout time.Duration
	// AllowedNetworks are where a peer's address may lie once its name is resolved; empty means anywhere.
	AllowedNetworks []netip.Prefix
	// Own, if not nil, tells whether an address is one that the sidecar itself listens on.
	Own func(netip.AddrPort) bool
}

// Differences say where the engines rightly differ. Everything else is one contract.
type Differences struct {
	// RejectsConnectionHeaders says that a message with connection-level header fields is malformed, as RFC 9113 §8.2.2 has it: a
	// request ends with RST_STREAM(PROTOCOL_ERROR), a response with INTERNAL. grpc-go takes such messages, so an engine on it can
	// only leave those fields out of what it forwards.
	RejectsConnectionHeaders bool
	// TellsDeadlines says that a call whose deadline passes ends with the status DEADLINE_EXCEEDED. grpc-go's server resets such a
	// stream with CANCEL by itself, mostly before a handler can give a status, so an engine on it leaves the status to the client.
	TellsDeadlines bool
	// PassesResets says that a peer's RST_STREAM reaches the client as it is. grpc-go gives its users a status in its place, so an
	// engine on it has nothing else to forward.
	PassesResets bool
}

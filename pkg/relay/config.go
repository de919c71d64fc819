package relay

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// Config is what an Engine needs. It is not changed after New. Zero values take the defaults named here.
type Config struct {
	// Router chooses the peer of every call. The engine registers itself with its OnRemove, so New comes before the first Update.
	Router *routing.Router
	// ConnectTimeout bounds one attempt to connect to a peer, until its first SETTINGS (default 1 s).
	ConnectTimeout time.Duration
	// MaxConnectionsPerPeer bounds the connections to one peer (default 4). Another one is opened when all are at the peer's
	// SETTINGS_MAX_CONCURRENT_STREAMS; at the bound, calls wait for room.
	MaxConnectionsPerPeer int
	// IdleTimeout is how long a peer's connections are kept without a call (default 5 min).
	IdleTimeout time.Duration
	// DeadAfter is how long a peer may be silent before what is open on the connection ends (default 5 s). See silence.go.
	DeadAfter time.Duration
	// AllowedNetworks are where a peer's address may lie once its name is resolved; empty means anywhere.
	AllowedNetworks []netip.Prefix
	// Own, if not nil, tells whether an address is one that we ourselves listen on. It is never dialled.
	Own func(netip.AddrPort) bool
	// TLS, if not nil, gives the configuration of one handshake with a peer; it is asked anew for each, so certificates may change.
	// The engine sets ALPN to h2, and ServerName, where that is empty, to the host that is dialled.
	TLS func() *tls.Config
	// Limits bound what clients and peers can make the engine hold.
	Limits Limits
	// Retry is for methods that may be called again although a peer may have run them.
	Retry Retry
	// Observer and Logger may be nil.
	Observer engine.Observer
	Logger   *slog.Logger
}

// Limits bound what clients and peers can make the engine hold or do. Each hit is counted in engine.Stats under the name given here
// in brackets.
type Limits struct {
	// HeaderBytes [max_header_bytes] bounds a field list as RFC 9113 §6.5.2 counts it (default 256 KiB). A call beyond it ends with
	// RESOURCE_EXHAUSTED, a response beyond it with INTERNAL. A block that is far beyond it, or in far too many frames, ends its
	// connection with ENHANCE_YOUR_CALM.
	HeaderBytes uint32
	// StreamsPerConnection [max_concurrent_streams] bounds the open calls of one client connection (default 16,384). Clients are
	// told; a stream beyond it is reset with REFUSED_STREAM, which says that it was not processed.
	StreamsPerConnection uint32
	// Calls [max_calls] bounds the open calls of all connections (default 16,384). A call beyond it ends with RESOURCE_EXHAUSTED. One to
	// the sidecar's own services counts as 32, since it takes as much memory.
	Calls int
	// Connections [max_connections] bounds the client connections (default 1,024). One beyond it is told GOAWAY and closed.
	Connections int
	// BufferedBytes [max_buffered_bytes] bounds what is held because the other side does not take it, and header blocks that are not whole
	// yet (default 32 MiB). At the bound, of the client that holds the most in sum, the largest call ends with RESOURCE_EXHAUSTED. Where
	// most of what a connection holds is what its other side does not read, or a header block that does not end, it is closed; calls that a
	// peer has then end with UNAVAILABLE.
	BufferedBytes int64
	// ReplayBytes [max_replay_bytes] bounds what is kept of requests so that they can be sent, or sent again: DATA, and headers of more
	// than 2 KiB (default 8 MiB). A call for which there is no room is not replayed; one that still waits for a connection ends with
	// RESOURCE_EXHAUSTED.
	ReplayBytes int64
	// ResetsPerSecond [max_resets_per_second] bounds the streams of one client connection that are reset, by it or for what it did
	// wrong, as a rate with a burst of twice that (default 10,000). Beyond it the connection ends with ENHANCE_YOUR_CALM.
	ResetsPerSecond int
	// ControlFrames [max_queued_control_frames] bounds the answers to what a connection's other side has sent (PING, SETTINGS, WINDOW_UPDATE
	// and resets of what was wrong) that wait for it to read (default 10,000). Beyond it the connection is closed: a GOAWAY would not be
	// read either. Calls that a peer has then end with UNAVAILABLE.
	ControlFrames int
	// HandshakeTimeout [handshake_timeout] is how long a client may take for its preface and first SETTINGS (default 10 s). After that
	// it is told GOAWAY and closed.
	HandshakeTimeout time.Duration
	// ClientIdleTimeout [client_idle_timeout] is how long a client connection may have no call before it is told GOAWAY (default
	// 1 h).
	ClientIdleTimeout time.Duration
}

// Retry says which calls may be sent again after a peer may have run them: when it answered UNAVAILABLE without response headers, or
// its connection broke before it answered (gRFC A6, with a budget in place of throttling).
type Retry struct {
	// Methods are full methods (/package.Service/Method), or all of a service (/package.Service/*). None: no such retries.
	Methods []string
	// Attempts is how many peers one call is sent to at most, the first one included (default 3).
	Attempts int
	// Budget is how many retries there may be for each call of the last ten seconds (default 0.2).
	Budget float64
}

func (c *Config) setDefaults() {
	def(&c.ConnectTimeout, time.Second)
	def(&c.MaxConnectionsPerPeer, 4)
	def(&c.IdleTimeout, 5*time.Minute)
	def(&c.DeadAfter, 5*time.Second)
	def(&c.Limits.HeaderBytes, 256<<10)
	def(&c.Limits.StreamsPerConnection, 16<<10)
	def(&c.Limits.Calls, 16<<10)
	def(&c.Limits.Connections, 1<<10)
	def(&c.Limits.BufferedBytes, 32<<20)
	def(&c.Limits.ReplayBytes, 8<<20)
	def(&c.Limits.ResetsPerSecond, 10_000)
	def(&c.Limits.ControlFrames, 10_000)
	def(&c.Limits.HandshakeTimeout, 10*time.Second)
	def(&c.Limits.ClientIdleTimeout, time.Hour)
	def(&c.Retry.Attempts, 3)
	def(&c.Retry.Budget, 0.2)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// def gives a value that was not set its default.
func def[T int | int64 | uint32 | float64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

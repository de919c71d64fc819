// Package grpcengine is the data plane on the stock stack: google.golang.org/grpc with the handler of github.com/mwitkow/grpc-proxy.
//
// The handler is used as it is; an adapter around it makes the pair transparent. The way of a call:
//
//	client ── grpc.Server ── relay ── TransparentHandler ── upstream ── grpc.ClientConn ── peer
//	          (engine.go)  (relay.go)    (grpc-proxy)      (upstream.go)  (balancer.go)
//
// The adapter carries message bytes as they are (codec.go), passes response headers when they come, cleans metadata (metadata.go)
// and gives every error its own status (status.go). One ClientConn serves all peers. Its balancer asks the router for every attempt
// of a call (call.go) and keeps the connections of each peer (peers.go), so grpc-go's own transparent retry, which replays a call
// that the peer has provably not processed, goes to another peer.
//
// What this stack cannot pass is listed in docs/engine-grpc-limits.md; each line is pinned by a test.
package grpcengine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mwitkow/grpc-proxy/proxy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// Config is what an Engine needs. It is not changed after New. Zero values take the defaults named here.
type Config struct {
	// Router chooses the peer of every attempt. The engine registers itself with its OnRemove, so New comes before the first Update.
	Router *routing.Router
	// ConnectTimeout bounds one attempt to connect to a peer, from the look-up of its name to its first SETTINGS (default 2 s). A
	// call stops looking for a peer after twice that.
	ConnectTimeout time.Duration
	// MaxConnectionsPerPeer bounds the connections to one peer (default 4). Another one is opened when all are at the peer's
	// SETTINGS_MAX_CONCURRENT_STREAMS; at the bound, calls go to another peer, or wait when none has room.
	MaxConnectionsPerPeer int
	// IdleTimeout is how long a peer's connections are kept without a call (default 5 min).
	IdleTimeout time.Duration
	// DeadAfter is how long sent bytes may stay unacknowledged before a connection counts as dead (default 5 s).
	DeadAfter time.Duration
	// MaxHeaderBytes bounds a header list as RFC 9113 §6.5.2 counts it, on both sides (default 1 MiB).
	MaxHeaderBytes uint32
	// MaxConcurrentStreams bounds the calls of one client connection; 0 means no bound.
	MaxConcurrentStreams uint32
	// AllowedNetworks are where a peer's address may lie once its name is resolved; empty means anywhere.
	AllowedNetworks []netip.Prefix
	// Own, if not nil, tells whether an address is one that we ourselves listen on. It is never dialled.
	Own func(netip.AddrPort) bool
	// TLS, if not nil, gives the configuration of one handshake with a peer; it is asked anew for each, so certificates may change.
	// The engine sets ALPN to h2, and ServerName, where that is empty, to the host that is dialled.
	TLS func() *tls.Config
	// Observer may be nil.
	Observer engine.Observer
	// Logger may be nil.
	Logger *slog.Logger
}

func (c *Config) setDefaults() {
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 2 * time.Second
	}
	if c.MaxConnectionsPerPeer <= 0 {
		c.MaxConnectionsPerPeer = 4
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 5 * time.Minute
	}
	if c.DeadAfter <= 0 {
		c.DeadAfter = 5 * time.Second
	}
	if c.MaxHeaderBytes == 0 {
		c.MaxHeaderBytes = 1 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Engine forwards calls. Its methods may be called concurrently.
type Engine struct {
	cfg    Config
	server *grpc.Server
	cc     *grpc.ClientConn
	pool   *pool
	proxy  grpc.StreamHandler

	// own are the services that the server answers itself. It is set before the first call.
	own map[string]grpc.ServiceInfo

	inFlight atomic.Int64
	clients  atomic.Int64
	dropped  atomic.Uint64

	closing   sync.Once
	janitored sync.WaitGroup
	stop      chan struct{}
}

// New makes an Engine. It binds nothing and dials nothing; Close frees it.
func New(cfg Config) (*Engine, error) {
	if cfg.Router == nil {
		return nil, errors.New("grpcengine: no router")
	}
	cfg.setDefaults()
	e := &Engine{cfg: cfg, stop: make(chan struct{})}
	e.pool = newPool(&e.cfg)
	codec := newCodec()
	var err error
	if e.cc, err = e.dialAll(codec); err != nil {
		return nil, fmt.Errorf("grpcengine: make client: %w", err)
	}
	e.proxy = proxy.TransparentHandler(e.direct)
	e.server = grpc.NewServer(e.serverOptions(codec)...)
	cfg.Router.OnRemove(e.pool.remove)
	e.janitored.Add(1)
	go e.janitor()
	return e, nil
}

// dialAll makes the one ClientConn for all peers.
func (e *Engine) dialAll(codec rawCodec) (*grpc.ClientConn, error) {
	redial := min(maxRedialInterval, e.cfg.ConnectTimeout)
	cc, err := grpc.NewClient(scheme+":///peers",
		grpc.WithResolvers(poolResolver{e.pool}),
		// TLS, if there is any, is the dialer's: grpc-go would check each call's own :authority against the peer's certificate.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(newDialer(&e.cfg, e.pool).dial),
		// HTTPS_PROXY in the environment is meant for the outside world, never for peers.
		grpc.WithNoProxy(),
		// The router decides when a peer is tried again; this backoff only paces the background attempts.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: min(minRedialInterval, redial), Multiplier: 1.6, Jitter: 0.2, MaxDelay: redial},
			MinConnectTimeout: e.cfg.ConnectTimeout,
		}),
		// The default would close all connections after 30 minutes without a call.
		grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(e.cfg.MaxHeaderBytes),
		grpc.WithStatsHandler(streamStats{}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(codec),
			grpc.MaxCallRecvMsgSize(math.MaxInt),
			grpc.MaxCallSendMsgSize(math.MaxInt),
		),
	)
	if err != nil {
		return nil, err
	}
	cc.Connect() // leaves the idle mode in which a ClientConn is born; it dials nobody
	return cc, nil
}

func (e *Engine) serverOptions(codec rawCodec) []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.UnknownServiceHandler(e.relay),
		grpc.ForceServerCodecV2(codec),
		grpc.MaxRecvMsgSize(math.MaxInt),
		grpc.MaxSendMsgSize(math.MaxInt),
		grpc.MaxHeaderListSize(e.cfg.MaxHeaderBytes),
		// A client on this Machine may PING as it likes; grpc-go's default would close its connection for it.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Nanosecond, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	}
	if e.cfg.MaxConcurrentStreams > 0 {
		opts = append(opts, grpc.MaxConcurrentStreams(e.cfg.MaxConcurrentStreams))
	}
	return opts
}

// Register lets f put services on the engine's server that it answers itself. Call it before Serve.
func (e *Engine) Register(f func(grpc.ServiceRegistrar)) { f(e.server) }

// Serve accepts on all the listeners until Drain or Close, which end it with nil. When one of them fails it stops the others and
// gives that error. It closes the listeners. It is called once.
func (e *Engine) Serve(listeners ...net.Listener) error {
	e.own = e.server.GetServiceInfo()
	errs := make(chan error, len(listeners))
	for _, l := range listeners {
		go e.serve(countedListener{l, &e.clients}, errs)
	}
	var first error
	for range listeners {
		if err := <-errs; err != nil && first == nil {
			first = err
			e.server.Stop()
		}
	}
	return first
}

func (e *Engine) serve(l net.Listener, errs chan<- error) {
	err := e.server.Serve(l)
	if errors.Is(err, grpc.ErrServerStopped) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	errs <- err
}

// Drain tells clients to go (GOAWAY), lets their open calls end until ctx does, then cuts what is left and gives ctx's error.
// It does not close the connections to peers: Close does.
func (e *Engine) Drain(ctx context.Context) error {
	done := make(chan struct{})
	go e.gracefulStop(done)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		open := e.inFlight.Load()
		e.server.Stop()
		<-done
		return fmt.Errorf("drain: %d calls cut: %w", open, ctx.Err())
	}
}

func (e *Engine) gracefulStop(done chan<- struct{}) {
	e.server.GracefulStop()
	close(done)
}

// Close cuts what is open and frees everything. It may be called twice.
func (e *Engine) Close() error {
	var err error
	e.closing.Do(func() {
		e.server.Stop()
		close(e.stop)
		e.janitored.Wait()
		e.pool.stopRedials()
		err = e.cc.Close()
		e.pool.closeConns()
	})
	return err
}

// janitor closes the connections that no call has used for IdleTimeout.
func (e *Engine) janitor() {
	defer e.janitored.Done()
	t := time.NewTicker(max(e.cfg.IdleTimeout/4, 10*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-t.C:
			e.pool.sweep(time.Now())
		}
	}
}

// Package relay is the data plane that passes HTTP/2 frames from connection to connection.
//
// It takes a call's header block, finds the peer, and from there on passes what comes, as it comes: it never waits for a message,
// never looks into one, and holds no goroutine, timer or context per call. A reader goroutine per connection parses all frames
// that one read brought, appends what they become to the target connections, and flushes each target once.
package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// Engine forwards calls. Its methods may be called concurrently.
type Engine struct {
	cfg    Config
	pool   pool
	server *grpc.Server // the sidecar's own services
	own    *peer
	names  map[string]struct{} // of the own services

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	inFlight atomic.Int64

	// mu guards the fields below.
	mu        sync.Mutex
	conns     map[*conn]struct{}
	listeners []net.Listener
	draining  bool
}

// New makes an Engine. It binds nothing and dials nothing; Close frees it.
func New(cfg Config) (*Engine, error) {
	if cfg.Router == nil {
		return nil, errors.New("relay: no router")
	}
	cfg.setDefaults()
	e := &Engine{cfg: cfg, conns: make(map[*conn]struct{}), server: grpc.NewServer(), names: make(map[string]struct{})}
	e.pool.e = e
	e.ctx, e.cancel = context.WithCancel(context.Background())
	cfg.Router.OnRemove(e.pool.remove)
	e.tasks.Add(1)
	go e.janitor()
	return e, nil
}

// Serve accepts on all the listeners until Drain or Close, which end it with nil.
func (e *Engine) Serve(listeners ...net.Listener) error {
	e.mu.Lock()
	e.listeners = listeners
	draining := e.draining
	e.mu.Unlock()
	if draining {
		e.closeListeners()
		return nil
	}
	errs := make(chan error, len(listeners))
	for _, lis := range listeners {
		go e.accept(lis, errs)
	}
	var failed error
	for range listeners {
		if err := <-errs; err != nil && failed == nil && !e.isDraining() {
			failed = err
			e.closeListeners()
		}
	}
	return failed
}

func (e *Engine) isDraining() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.draining
}

func (e *Engine) closeListeners() {
	e.mu.Lock()
	listeners := e.listeners
	e.mu.Unlock()
	for _, lis := range listeners {
		_ = lis.Close()
	}
}

func (e *Engine) accept(lis net.Listener, errs chan<- error) {
	for {
		nc, err := lis.Accept()
		if err != nil {
			if ne, ok := err.(interface{ Temporary() bool }); ok && ne.Temporary() && !errors.Is(err, net.ErrClosed) {
				pause := time.NewTimer(5 * time.Millisecond) // out of file descriptors, most likely
				<-pause.C
				continue
			}
			errs <- err
			return
		}
		e.tasks.Add(1)
		go e.client(nc)
	}
}

// client serves one client connection.
func (e *Engine) client(nc net.Conn) {
	defer e.tasks.Done()
	defer nc.Close()
	c := newConn(e, nc)
	if !e.track(c) {
		return
	}
	defer e.untrack(c)
	_ = nc.SetReadDeadline(time.Now().Add(e.cfg.Limits.HandshakeTimeout))
	hello := make([]byte, len(preface))
	if _, err := io.ReadFull(nc, hello); err != nil || string(hello) != preface {
		return
	}
	_ = nc.SetReadDeadline(time.Time{})
	settings := []setting{{settingInitialWindowSize, recvStreamWindow}, {settingMaxHeaderListSize, e.cfg.Limits.HeaderBytes}}
	if n := e.cfg.Limits.StreamsPerConnection; n > 0 {
		settings = append(settings, setting{settingMaxConcurrentStreams, n})
	}
	c.mu.Lock()
	c.out = appendSettings(c.out, settings...)
	c.out = appendWindowUpdate(c.out, 0, recvConnWindow-defaultWindow)
	c.mu.Unlock()
	flush([]*conn{c})
	err := c.serve()
	e.clientGone(c, err)
	c.linger()
}

// clientGone cancels the calls of a client whose connection has ended.
func (e *Engine) clientGone(c *conn, err error) {
	c.mu.Lock()
	c.closed = err
	all := make([]*half, 0, len(c.streams))
	for _, h := range c.streams {
		all = append(all, h)
	}
	for _, h := range all {
		h.forget()
	}
	c.mu.Unlock()
	for _, h := range all {
		h.s.canceled(c, codeCancel)
	}
	c.flushTouched()
}

// linger lets a last GOAWAY reach the other side before the connection is closed.
func (c *conn) linger() {
	c.mu.Lock()
	left := len(c.out) > 0 || c.writing
	c.hangUp = true
	c.mu.Unlock()
	if !left {
		return
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
	flush([]*conn{c})
}

// track notes a connection; false means that the engine has been closed.
func (e *Engine) track(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conns == nil {
		_ = c.nc.Close()
		return false
	}
	e.conns[c] = struct{}{}
	return true
}

func (e *Engine) untrack(c *conn) {
	e.mu.Lock()
	delete(e.conns, c)
	e.mu.Unlock()
}

func (e *Engine) callStarted() {
	e.inFlight.Add(1)
	if e.cfg.Observer != nil {
		e.cfg.Observer.CallStarted()
	}
}

func (e *Engine) callEnded(s *stream, service string, p *routing.Peer, code uint32, attempts int) {
	e.inFlight.Add(-1)
	if e.cfg.Observer == nil {
		return
	}
	info := engine.CallInfo{Service: service, Method: s.method, Code: codes.Code(code), Latency: time.Since(s.started), Attempts: attempts}
	if p != nil && attempts > 0 {
		info.PeerID, info.PeerRegion = p.Key.ID, p.Region
	}
	e.cfg.Observer.CallEnded(info)
}

// Drain tells clients to go, lets open calls end until ctx does, then cuts what is left and gives ctx's error.
func (e *Engine) Drain(ctx context.Context) error {
	e.mu.Lock()
	e.draining = true
	var clients []*conn
	for c := range e.conns {
		if c.link == nil {
			clients = append(clients, c)
		}
	}
	e.mu.Unlock()
	e.closeListeners()
	for _, c := range clients {
		c.goodbye()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for e.inFlight.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), e.Close())
		}
	}
	return nil
}

// goodbye sends GOAWAY: what the client sent before is done, what comes after is not.
func (c *conn) goodbye() {
	c.mu.Lock()
	c.goingAway = true
	c.out = appendGoAway(c.out, 1<<31-1, codeNo, "the sidecar is ending")
	c.hangUp = len(c.streams) == 0
	c.mu.Unlock()
	flush([]*conn{c})
}

// Close cuts what is open and frees everything. It may be called twice.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.draining = true
	conns := e.conns
	e.conns = nil
	e.mu.Unlock()
	e.closeListeners()
	e.cancel()
	for c := range conns {
		_ = c.nc.Close()
	}
	e.server.Stop()
	e.tasks.Wait()
	return nil
}

// janitor closes connections that nobody has used for IdleTimeout.
func (e *Engine) janitor() {
	defer e.tasks.Done()
	tick := time.NewTicker(max(e.cfg.IdleTimeout/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case now := <-tick.C:
			e.pool.sweep(now)
		}
	}
}

// Package relay is the data plane that passes HTTP/2 frames from connection to connection.
//
// It takes a call's header block, finds the peer, and from there on passes what comes, as it comes: it never waits for a message,
// never looks into one, and holds no goroutine, timer or context per call. A reader goroutine per connection parses all frames
// that one read brought, appends what they become to the target connections, and flushes each target once.
//
// The way of a call: conn.go reads and dispatches, streams.go and control.go take the frames, request.go begins a call, route.go
// finds its peer, peer.go and link.go have the connections, data.go passes DATA, half.go sends within the windows, write.go writes,
// response.go passes the answer back. What a call owes both sides when something goes wrong is in stream.go, replay.go, retry.go and deadline.go.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// Engine forwards calls. It implements engine.Engine.
type Engine struct {
	cfg    Config
	pool   pool
	retry  *retryPolicy
	server *grpc.Server // the sidecar's own services
	own    *peer
	names  map[string]struct{} // of the own services
	epoch  time.Time

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	// inFlight are the calls that are forwarded, ownCalls those that the sidecar itself answers.
	inFlight, ownCalls atomic.Int64
	// clients counts those that are served, turnedAway those that are being told why they are not.
	clients, turnedAway atomic.Int64
	// buffered is the DATA that waits for a window or for a socket, replay what is kept so that requests can be sent again.
	buffered, replay atomic.Int64
	relieving        atomic.Bool
	rest             rest
	late             late
	hits             [limits]atomic.Uint64
	retries          [reasons]atomic.Uint64

	// mu guards the fields below. It may be taken under any other lock; none is taken under it.
	mu        sync.Mutex
	conns     map[*conn]struct{} // nil once closed
	listeners []net.Listener
	draining  bool
}

var _ engine.Engine = (*Engine)(nil)

// New makes an Engine. It binds nothing and dials nothing; Close frees it.
func New(cfg Config) (*Engine, error) {
	if cfg.Router == nil {
		return nil, errors.New("relay: no router")
	}
	cfg.setDefaults()
	e := &Engine{
		cfg: cfg, epoch: time.Now(), conns: make(map[*conn]struct{}), server: grpc.NewServer(), names: make(map[string]struct{}),
		retry: newRetryPolicy(cfg.Retry),
	}
	e.pool.e = e
	e.ctx, e.cancel = context.WithCancel(context.Background())
	cfg.Router.OnRemove(e.pool.remove)
	e.tasks.Add(1)
	go e.janitor()
	return e, nil
}

// clock is the time since the engine was made, in nanoseconds: monotonic, so a step of the wall clock ends nothing.
func (e *Engine) clock() int64 { return int64(time.Since(e.epoch)) }

// now is the clock as the reader of c last read it, for the batch in hand; c is nil elsewhere.
func (e *Engine) now(c *conn) int64 {
	if c != nil {
		return c.now
	}
	return e.clock()
}

// enter begins a task that Close waits for; false means that the engine is closed. Who gets true calls e.tasks.Done.
func (e *Engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conns == nil {
		return false
	}
	e.tasks.Add(1)
	return true
}

// Serve accepts on all the listeners until Drain or Close, which end it with nil. When one of them fails it stops the others and
// gives that error. It closes the listeners. It is called once.
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

// acceptPause is how long accepting rests after an error that may pass, such as a lack of file descriptors.
const acceptPause = 5 * time.Millisecond

func (e *Engine) accept(lis net.Listener, errs chan<- error) {
	for {
		nc, err := lis.Accept()
		if err != nil {
			if ne, ok := err.(interface{ Temporary() bool }); ok && ne.Temporary() && !errors.Is(err, net.ErrClosed) {
				pause := time.NewTimer(acceptPause)
				<-pause.C
				continue
			}
			errs <- fmt.Errorf("accept on %s: %w", lis.Addr(), err)
			return
		}
		if !e.enter() {
			_ = nc.Close()
			continue
		}
		go e.client(nc)
	}
}

// track notes a connection; false means that the engine has been closed, and the connection is too.
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

// all gives the open connections for which ok holds.
func (e *Engine) all(ok func(*conn) bool) []*conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []*conn
	for c := range e.conns {
		if ok(c) {
			out = append(out, c)
		}
	}
	return out
}

func (e *Engine) callStarted(own bool) {
	if own {
		e.ownCalls.Add(1)
		return
	}
	e.inFlight.Add(1)
	if e.cfg.Observer != nil {
		e.cfg.Observer.CallStarted()
	}
}

// callEnded tells how a call went; p is the last peer that was sent it, nil if none was.
func (e *Engine) callEnded(s *stream, now int64, service string, p *routing.Peer, code uint32, attempts int) {
	if s.own {
		e.ownCalls.Add(-1)
		return
	}
	e.inFlight.Add(-1)
	if e.cfg.Observer == nil {
		return
	}
	info := engine.CallInfo{Service: service, Method: s.call.Method, Code: codes.Code(code), Attempts: attempts,
		Latency: time.Duration(now - s.started)}
	if p != nil {
		info.PeerID, info.PeerRegion = p.Key.ID, p.Region
	}
	e.cfg.Observer.CallEnded(info)
}

// Drain tells clients to go (GOAWAY), lets their open calls end until ctx does, then cuts what is left and gives ctx's error.
// It does not close the connections to peers: Close does.
func (e *Engine) Drain(ctx context.Context) error {
	e.mu.Lock()
	e.draining = true
	e.mu.Unlock()
	e.closeListeners()
	for _, c := range e.all((*conn).isClient) {
		c.goodbye(endingSoon)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for e.inFlight.Load() > 0 || e.clients.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			if open := e.inFlight.Load(); open > 0 {
				return errors.Join(fmt.Errorf("drain: %d calls cut: %w", open, ctx.Err()), e.Close())
			}
			return nil // only idle clients are left that do not hang up
		}
	}
	return nil
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

// tick is how often the janitor looks around.
const tick = 250 * time.Millisecond

// janitor does what is due now and then: it looks for silent peers, keeps connections warm, and closes those that nobody uses.
func (e *Engine) janitor() {
	defer e.tasks.Done()
	t := time.NewTicker(min(tick, max(e.cfg.IdleTimeout/4, 10*time.Millisecond)))
	defer t.Stop()
	last := e.clock()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-t.C:
			now := e.clock()
			e.pool.tend(now, lateness(now-last))
			last = now
			e.closeIdleClients(now)
			if e.buffered.Load() > e.cfg.Limits.BufferedBytes {
				e.relieve()
			}
		}
	}
}

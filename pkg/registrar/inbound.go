package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// InboundStatus is the state of an inbound listener at one moment.
type InboundStatus struct {
	Listening bool
	// Connections are open now; Accepted, Refused (the app did not accept) and the bytes count since the start. The bytes of a
	// connection are added in steps of up to 256 KiB and when it ends.
	Connections  int64
	Accepted     uint64
	Refused      uint64
	BytesToApp   uint64
	BytesFromApp uint64
}

// inbound listens at the advertised address and splices each connection to the app. It can be opened and shut many times;
// shutting keeps the connections that are there. Its methods may be called concurrently.
type inbound struct {
	address     string // the advertised one
	dialTimeout time.Duration
	log         *slog.Logger

	connections              atomic.Int64
	accepted, refused        atomic.Uint64
	bytesToApp, bytesFromApp atomic.Uint64
	cut                      atomic.Int64   // connections that abort ended and no drain has told of
	accepting                sync.WaitGroup // the accept loops
	splicing                 sync.WaitGroup // the connections; Add only by an accept loop, so never after accepting is done
	ctx                      context.Context
	abort                    context.CancelFunc // ends all connections

	mu       sync.Mutex // guards listener, closed
	listener *net.TCPListener
	closed   bool
}

func newInbound(address string, dialTimeout time.Duration, log *slog.Logger) *inbound {
	in := &inbound{address: address, dialTimeout: dialTimeout, log: log}
	in.ctx, in.abort = context.WithCancel(context.Background())
	return in
}

// open listens and splices to app. When it listens already, it does nothing. It must not run twice at a time.
func (in *inbound) open(ctx context.Context, app string) error {
	if in.listening() {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", in.address)
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		l.Close()
		return fmt.Errorf("listen at %s: %w", in.address, net.ErrClosed)
	}
	in.listener = l.(*net.TCPListener)
	in.accepting.Add(1)
	go in.accept(in.listener, app)
	return nil
}

// shut stops listening. Connections stay.
func (in *inbound) shut() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.listener != nil {
		in.listener.Close()
		in.listener = nil
	}
}

// drain stops listening for good and waits until the connections have ended, or ctx has: then it cuts them, and says so. Where none
// is open it returns nil at once, also when ctx has ended already.
func (in *inbound) drain(ctx context.Context) error {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	in.shut()
	stop := context.AfterFunc(ctx, in.abort)
	defer stop()
	in.accepting.Wait()
	in.splicing.Wait()
	if n := in.cut.Swap(0); n > 0 {
		return fmt.Errorf("%w: %d at %s: %w", ErrConnectionsCut, n, in.address, context.Cause(ctx))
	}
	return nil
}

// close stops everything now.
func (in *inbound) close() {
	in.abort()
	in.drain(in.ctx)
}

func (in *inbound) listening() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.listener != nil
}

func (in *inbound) status() InboundStatus {
	return InboundStatus{
		Listening:    in.listening(),
		Connections:  in.connections.Load(),
		Accepted:     in.accepted.Load(),
		Refused:      in.refused.Load(),
		BytesToApp:   in.bytesToApp.Load(),
		BytesFromApp: in.bytesFromApp.Load(),
	}
}

// accept takes connections until l is closed.
func (in *inbound) accept(l *net.TCPListener, app string) {
	defer in.accepting.Done()
	wait := backoff{low: 5 * time.Millisecond, high: time.Second}
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, or the peer was gone again
			d := wait.next()
			in.log.Warn("accepting an inbound connection failed: trying again", "address", in.address, "error", err, "next_in", d)
			pause(in.ctx, d)
			continue
		}
		wait.reset()
		in.accepted.Add(1)
		in.connections.Add(1)
		in.splicing.Add(1)
		go in.splice(conn, app)
	}
}

// splice joins one connection with a new one to the app.
func (in *inbound) splice(peer *net.TCPConn, app string) {
	defer in.splicing.Done()
	defer in.connections.Add(-1)
	conn, err := in.dial(app)
	if err != nil {
		if in.ctx.Err() != nil {
			in.cut.Add(1)
		} else {
			in.refused.Add(1)
		}
		reset(peer) // what a peer sees where nothing listens
		return
	}
	p := &pair{peer: peer, app: conn, toApp: &in.bytesToApp, fromApp: &in.bytesFromApp}
	if !p.run(in.ctx) {
		in.cut.Add(1)
	}
}

func (in *inbound) dial(app string) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(in.ctx, in.dialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", app)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

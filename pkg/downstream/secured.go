package downstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// secured accepts connections whose TLS handshake has succeeded. A goroutine accepts, and each handshake has one of its own.
type secured struct {
	net.Listener
	g      *Gate
	ready  chan accepted
	places chan struct{} // of the goroutines that make handshakes

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	// mu guards the fields below.
	mu             sync.Mutex
	begun, stopped bool
}

// accepted is what an Accept gives.
type accepted struct {
	nc  net.Conn
	err error
}

func newSecured(lis net.Listener, g *Gate) *secured {
	l := &secured{Listener: lis, g: g, ready: make(chan accepted), places: make(chan struct{}, g.cfg.MaxHandshakes)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Accept gives the next connection with a handshake. Until it is first called, clients wait in the kernel's queue.
func (l *secured) Accept() (net.Conn, error) {
	l.begin()
	select {
	case a := <-l.ready:
		return a.nc, a.err
	case <-l.ctx.Done():
		return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Source: nil, Addr: l.Addr(), Err: net.ErrClosed}
	}
}

func (l *secured) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun || l.stopped {
		return
	}
	l.begun = true
	l.tasks.Add(1)
	go l.accept()
}

// Close ends the handshakes that are under way and waits for them. It may be called twice.
func (l *secured) Close() error {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	err := l.Listener.Close()
	l.cancel()
	l.tasks.Wait()
	return err
}

// accept accepts until the listener fails for good. Errors are the caller's of Accept, who also knows which of them pass.
func (l *secured) accept() {
	defer l.tasks.Done()
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			if !l.give(accepted{err: err}) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		l.tasks.Add(1)
		h := &handshake{nc: nc, from: networkOf(clientAddress(nc))}
		h.ctx, h.end = context.WithCancel(l.ctx)
		if out := l.g.pending.enter(h); out != nil {
			reset(out.nc)
			out.end()
		}
		select {
		case l.places <- struct{}{}: // at once, or once the one that is out has ended, or an Accept has taken one that is ready
			go l.handshake(h)
		case <-l.ctx.Done():
			l.abandon(h)
		}
	}
}

// abandon ends a handshake that has not begun.
func (l *secured) abandon(h *handshake) {
	defer l.tasks.Done()
	l.g.pending.leave(h)
	h.end()
	_ = h.nc.Close()
}

// give hands something to an Accept, unless the listener is closed before one asks.
func (l *secured) give(a accepted) bool {
	select {
	case l.ready <- a:
		return true
	case <-l.ctx.Done():
		return false
	}
}

func (l *secured) handshake(h *handshake) {
	defer l.tasks.Done()
	defer func() { <-l.places }()
	defer h.end()
	c, err := l.g.secure(h.ctx, h.nc)
	switch out := l.g.pending.leave(h); {
	case out:
		_ = h.nc.Close()
		l.g.refuse(h.nc, reasonTooMany, nil)
	case err == nil:
		if !l.give(accepted{nc: c}) {
			_ = h.nc.Close()
		}
	case l.ctx.Err() == nil: // else it is our own end
		l.g.refuse(h.nc, reasonOf(err), err)
	}
}

// secure makes the handshake. It closes the connection where that fails.
func (g *Gate) secure(ctx context.Context, nc net.Conn) (net.Conn, error) {
	within, cancel := context.WithTimeout(ctx, g.cfg.HandshakeTimeout)
	defer cancel()
	s := &socket{Conn: nc}
	cfg := g.cfg.TLS()
	cfg.NextProtos = []string{"h2"}
	tc := tls.Server(s, cfg)
	err := tc.HandshakeContext(within)
	if err == nil && tc.ConnectionState().NegotiatedProtocol != "h2" {
		err = errNoALPN
		_, _ = io.WriteString(tc, hint) // crypto/tls lets clients pass that offer http/1.1, or nothing
		_ = tc.CloseWrite()
	}
	if err == nil {
		return &conn{tc, s}, nil
	}
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		_ = nc.SetWriteDeadline(time.Now().Add(lastWord))
		_, _ = io.WriteString(nc, hint)
	}
	farewell(within, nc)
	return nil, err
}

// hint is the answer to plain text, and to TLS without h2. An HTTP/1 client shows it; one for HTTP/2 says that it looks like HTTP/1.
const hint = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
	"This port takes gRPC over TLS: HTTP/2, agreed on by ALPN (h2). Try: grpcurl -cacert <ca.pem> <host:port> list\n"

const (
	// lastWord is how long the last octets on a connection may wait for room in its socket.
	lastWord = 100 * time.Millisecond
	// lingerTime and lingerBytes bound what is read of a client that was refused. Closing a socket with unread octets resets it, and an
	// alert that the client has not read yet is lost with that.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 64 << 10
)

// farewell closes a connection once the client has had time to read why, at the latest when ctx ends.
func farewell(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	if half, ok := nc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	_ = nc.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, nc, lingerBytes)
}

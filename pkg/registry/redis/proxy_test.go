package redis_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy passes connections on until it is frozen: then those it has go silent and stay open, as a middlebox leaves them that
// forgot them.
type proxy struct {
	l  net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	target string
	conns  []net.Conn
	frozen []chan struct{}
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, target: target}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		server, err := net.Dial("tcp", target)
		if err != nil {
			client.Close()
			continue
		}
		stop := make(chan struct{})
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.frozen = append(p.frozen, stop)
		p.mu.Unlock()
		p.wg.Go(func() { pipe(client, server, stop) })
		p.wg.Go(func() { pipe(server, client, stop) })
	}
}

// pipe drops what it reads once stop is closed.
func pipe(to io.Writer, from io.Reader, stop chan struct{}) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-stop:
			continue
		default:
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// retarget sends new connections elsewhere; those that stand stay where they are.
func (p *proxy) retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, stop := range p.frozen {
		close(stop)
	}
	p.frozen = nil
}

func (p *proxy) close() {
	p.l.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

package enginetest

import (
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// RawPeer is a scripted HTTP/2 server.
type RawPeer struct {
	Address string

	l       net.Listener
	serving sync.WaitGroup

	mu   sync.Mutex // guards open
	open []net.Conn
}

// StartRawPeer runs a peer until the test's end. script gets each connection after the client's preface and the peer's first
// SETTINGS, and a goroutine of its own; when it returns, the connection is closed.
func StartRawPeer(t testing.TB, settings []http2.Setting, script func(*RawConn)) *RawPeer {
	t.Helper()
	p := &RawPeer{l: Listen(t, "127.0.0.1:0")}
	p.Address = p.l.Addr().String()
	over := make(chan struct{})
	p.serving.Go(func() {
		for n := 0; ; n++ {
			nc, err := p.l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.open = append(p.open, nc)
			p.mu.Unlock()
			p.serving.Go(func() {
				defer nc.Close()
				if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				c := newRawConn(nc)
				c.N, c.over = n, over
				if c.Framer.WriteSettings(settings...) == nil {
					script(c)
				}
			})
		}
	})
	t.Cleanup(func() {
		close(over)
		p.l.Close()
		p.mu.Lock()
		for _, nc := range p.open {
			nc.Close()
		}
		p.mu.Unlock()
		p.serving.Wait()
	})
	return p
}

// kill ends the peer as a killed process does: its port refuses, and its connections are reset.
func (p *RawPeer) kill() {
	p.l.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, nc := range p.open {
		_ = nc.(*net.TCPConn).SetLinger(0) // so that closing resets
		nc.Close()
	}
}

// RawPair is a scripted peer behind a sidecar, with a scripted client.
func (e Subject) RawPair(t testing.TB, script func(*RawConn)) (*Sidecar, *RawConn) {
	t.Helper()
	s := e.Start(t, Setup{})
	s.Set(Instance("only", StartRawPeer(t, nil, script).Address))
	return s, DialRaw(t, s.Address)
}

// AnswerAll answers every call with body.
func AnswerAll(body string) func(*RawConn) {
	return func(c *RawConn) {
		for h := c.Next(); h != nil; h = c.Next() {
			c.Answer(h.StreamID, body)
		}
	}
}

// Refuse answers every call with RST_STREAM(REFUSED_STREAM).
func Refuse(c *RawConn) {
	for h := c.Next(); h != nil; h = c.Next() {
		_ = c.Framer.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
	}
}

// goAway answers the first call with a GOAWAY that leaves the call out.
func goAway(c *RawConn) {
	if h := c.Next(); h != nil {
		c.goAway(h.StreamID)
		c.Drain()
	}
}

// goAway sends a GOAWAY that leaves a client's stream out, and those after it. The last stream id is the one before, which also
// is a client's: grpc-go does not take another (golang.org/x/net and RFC 9113 do).
func (c *RawConn) goAway(stream uint32) {
	_ = c.Framer.WriteGoAway(stream-min(stream, 2), http2.ErrCodeNo, nil)
}

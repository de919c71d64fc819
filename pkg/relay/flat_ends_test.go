package relay_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// flatPeer answers every call, as soon as its request has ended, with headers, one message and status 0.
type flatPeer struct {
	lis   net.Listener
	tasks sync.WaitGroup

	// mu guards the fields below.
	mu     sync.Mutex
	conns  map[net.Conn]struct{} // nil once closed
	failed error
}

// startFlatPeer starts a peer that ends with the test, or when it is closed.
func startFlatPeer(t testing.TB) *flatPeer {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &flatPeer{lis: lis, conns: make(map[net.Conn]struct{})}
	p.tasks.Go(p.acceptAll)
	t.Cleanup(func() {
		p.close()
		if p.failed != nil {
			t.Errorf("a peer: %v", p.failed)
		}
	})
	return p
}

// entry is the peer's record in the router's table.
func (p *flatPeer) entry(service, id string) registry.Entry {
	return registry.Entry{Instance: registry.Instance{
		Service: service, ID: id, Incarnation: "1", Schema: 1, Address: p.lis.Addr().String(), State: registry.Serving,
	}}
}

func (p *flatPeer) acceptAll() {
	for {
		nc, err := p.lis.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.conns == nil {
			_ = nc.Close()
		} else {
			p.conns[nc] = struct{}{}
			p.tasks.Go(func() { p.serve(nc) })
		}
		p.mu.Unlock()
	}
}

// leave has the peer end once the engine has closed its connections.
func (p *flatPeer) leave(t testing.TB) {
	t.Helper()
	_ = p.lis.Close()
	left := make(chan struct{})
	go func() { p.tasks.Wait(); close(left) }()
	select {
	case <-left:
	case <-time.After(flatPatience):
		t.Error("the engine does not close its connections to a peer that has left")
		p.close()
	}
}

func (p *flatPeer) close() {
	_ = p.lis.Close()
	p.mu.Lock()
	for nc := range p.conns {
		_ = nc.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.tasks.Wait()
}

func (p *flatPeer) serve(nc net.Conn) {
	err := serveFlat(nc)
	_ = nc.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, nc)
	if p.conns != nil && err != nil && !flatEnd(err) && p.failed == nil {
		p.failed = err
	}
}

// flatEnd tells whether an error is the ordinary end of a connection.
func flatEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// serveFlat answers the calls of one connection.
func serveFlat(nc net.Conn) error {
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return err
	}
	blocks := flatEncode(flatFields(":status", "200", "content-type", "application/grpc"), flatFields("grpc-status", "0"))
	headers, trailers := blocks[0].first, blocks[1].first
	c := newFlatConn(nc)
	c.out = appendFlatCredit(appendFlat(c.out, http2.FrameSettings, 0, 0, nil), 0, flatMuchCredit)
	for {
		f, err := c.turn()
		if err != nil {
			return err
		}
		if (f.typ != http2.FrameHeaders && f.typ != http2.FrameData) || !f.flags.Has(http2.FlagDataEndStream) {
			continue
		}
		c.out = appendFlat(c.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, f.stream, headers)
		c.out = appendFlat(c.out, http2.FrameData, 0, f.stream, flatMessage)
		c.out = appendFlat(c.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, f.stream, trailers)
		headers, trailers = blocks[0].rest, blocks[1].rest
		if c.window -= int64(len(flatMessage)); c.window < 0 {
			return errors.New("the engine does not return the connection's credit")
		}
	}
}

// flatClient makes calls on one connection.
type flatClient struct {
	*flatConn
	blocks flatBlocks
	called bool
	stream uint32 // the next one's id
}

// dialFlat connects to an engine, or to a peer.
func dialFlat(network, address string) (*flatClient, error) {
	nc, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	c := &flatClient{flatConn: newFlatConn(nc), stream: 1, blocks: flatEncode(flatFields(":method", "POST", ":scheme", "http",
		":path", "/flat.Service/Call", ":authority", "localhost:50052", "content-type", "application/grpc", "user-agent", "flat/1",
		"te", "trailers"))[0]}
	c.out = append(c.out, http2.ClientPreface...)
	// Streams get all the room that there is, so that nothing waits for credit of ours.
	c.out = appendFlatCredit(appendFlat(c.out, http2.FrameSettings, 0, 0, []byte{0, byte(http2.SettingInitialWindowSize), 0x7f, 0xff, 0xff, 0xff}),
		0, flatMuchCredit)
	return c, nil
}

// calls makes n calls at once and awaits their answers.
func (c *flatClient) calls(n int) error {
	first := c.stream
	for range n {
		block := c.blocks.rest
		if !c.called {
			block, c.called = c.blocks.first, true
		}
		c.out = appendFlat(c.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, c.stream, block)
		c.out = appendFlat(c.out, http2.FrameData, http2.FlagDataEndStream, c.stream, flatMessage)
		c.stream += 2
		c.window -= int64(len(flatMessage))
	}
	if c.window < 0 {
		return errors.New("the engine does not return the connection's credit")
	}
	_ = c.nc.SetDeadline(time.Now().Add(flatPatience))
	for done, messages := 0, 0; done < n; {
		if !c.parsed() {
			if err := c.flush(); err != nil {
				return err
			}
		}
		f, err := c.next()
		if err != nil {
			return err
		}
		if err := c.usual(&f); err != nil {
			return err
		}
		switch f.typ {
		case http2.FrameData:
			if f.stream < first || f.stream >= c.stream || !bytes.Equal(f.payload, flatMessage) {
				return fmt.Errorf("stream %d gets the DATA %q", f.stream, f.payload)
			}
			messages++
		case http2.FrameRSTStream:
			if f.stream >= first { // earlier ones may hear that nobody needs the rest of their requests
				return fmt.Errorf("stream %d is reset", f.stream)
			}
		case http2.FrameHeaders:
			if !f.flags.Has(http2.FlagHeadersEndStream) {
				continue
			}
			if done++; messages < done { // a status of the engine's own has no message before it
				return fmt.Errorf("stream %d ends without a message: %q", f.stream, f.payload)
			}
		}
	}
	return nil
}

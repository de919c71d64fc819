package grpcengine_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawPeer is a scripted HTTP/2 server: script gets each connection after the preface and the first SETTINGS.
type rawPeer struct {
	address string
	l       net.Listener
	wg      sync.WaitGroup
}

type rawConn struct {
	t    testing.TB
	n    int // counts connections from 0
	nc   net.Conn
	f    *http2.Framer
	dec  *hpack.Decoder
	enc  *hpack.Encoder
	buf  bytes.Buffer
	last uint32
}

func startRawPeer(t testing.TB, settings []http2.Setting, script func(*rawConn)) *rawPeer {
	t.Helper()
	p := &rawPeer{l: listen(t, "127.0.0.1:0")}
	p.address = p.l.Addr().String()
	var mu sync.Mutex
	var open []net.Conn
	p.wg.Go(func() {
		for n := 0; ; n++ {
			nc, err := p.l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, nc)
			mu.Unlock()
			p.wg.Go(func() {
				defer nc.Close()
				c := &rawConn{t: t, n: n, nc: nc, f: http2.NewFramer(nc, nc), dec: hpack.NewDecoder(4096, nil)}
				c.f.ReadMetaHeaders = c.dec
				c.enc = hpack.NewEncoder(&c.buf)
				if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				if c.f.WriteSettings(settings...) != nil {
					return
				}
				script(c)
			})
		}
	})
	t.Cleanup(func() {
		p.l.Close()
		mu.Lock()
		for _, nc := range open {
			nc.Close()
		}
		mu.Unlock()
		p.wg.Wait()
	})
	return p
}

// next gives the next request's headers, answering what else comes. Nil means that the connection is gone.
func (c *rawConn) next() *http2.MetaHeadersFrame {
	for {
		switch f := c.frame().(type) {
		case nil:
			return nil
		case *http2.MetaHeadersFrame:
			c.last = f.StreamID
			return f
		}
	}
}

// frame gives the next frame that is neither SETTINGS nor PING.
func (c *rawConn) frame() http2.Frame {
	for {
		f, err := c.f.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = c.f.WritePing(true, f.Data)
			}
		default:
			return f
		}
	}
}

// headers writes a header block of name, value, name, value…
func (c *rawConn) headers(stream uint32, end bool, fields ...string) {
	c.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.buf.Bytes(), EndHeaders: true, EndStream: end})
}

// message writes one gRPC message.
func (c *rawConn) message(stream uint32, flag byte, body string) {
	b := binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(body)))
	_ = c.f.WriteData(stream, false, append(b, body...))
}

// answer answers a call with one message and OK.
func (c *rawConn) answer(stream uint32, body string) {
	c.headers(stream, false, ":status", "200", "content-type", "application/grpc")
	c.message(stream, 0, body)
	c.headers(stream, true, "grpc-status", "0")
}

func field(h *http2.MetaHeadersFrame, name string) (values []string) {
	for _, f := range h.Fields {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// answerAll answers every call with body.
func answerAll(body string) func(*rawConn) {
	return func(c *rawConn) {
		for h := c.next(); h != nil; h = c.next() {
			c.answer(h.StreamID, body)
		}
	}
}

// dialRaw is a scripted HTTP/2 client of address.
func dialRaw(t testing.TB, address string) *rawConn {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { nc.Close() })
	must(t, nc.SetDeadline(time.Now().Add(patience)))
	c := &rawConn{t: t, nc: nc, f: http2.NewFramer(nc, nc), dec: hpack.NewDecoder(4096, nil)}
	c.f.ReadMetaHeaders = c.dec
	c.enc = hpack.NewEncoder(&c.buf)
	_, err = nc.Write([]byte(http2.ClientPreface))
	must(t, err)
	must(t, c.f.WriteSettings())
	return c
}

// request opens a call; fields are added to, or take the place of, the usual ones.
func (c *rawConn) request(stream uint32, end bool, fields ...string) {
	all := []string{":method", "POST", ":scheme", "http", ":path", method, ":authority", "x", "content-type", "application/grpc", "te", "trailers"}
	c.headers(stream, end, append(all, fields...)...)
}

// data gives the bytes of the next DATA frame that has any.
func (c *rawConn) data() []byte {
	for {
		switch f := c.frame().(type) {
		case nil:
			return []byte{0xff}
		case *http2.DataFrame:
			if len(f.Data()) > 0 {
				return bytes.Clone(f.Data())
			}
		}
	}
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

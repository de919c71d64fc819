package enginetest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// RawConn is one end of an HTTP/2 connection whose frames a script writes and reads. One goroutine uses it.
type RawConn struct {
	// N is, at a peer, how many connections were accepted before this one.
	N int
	// Framer writes what the methods below do not.
	Framer *http2.Framer
	// Encoder writes header fields to Block.
	Encoder *hpack.Encoder
	Block   bytes.Buffer

	nc net.Conn
	// over is closed, at a peer, when the test has ended.
	over <-chan struct{}
}

func newRawConn(nc net.Conn) *RawConn {
	c := &RawConn{nc: nc, Framer: http2.NewFramer(nc, nc)}
	c.Framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.Encoder = hpack.NewEncoder(&c.Block)
	return c
}

// DialRaw opens a client connection to address.
func DialRaw(t testing.TB, address string) *RawConn {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	Must(t, err)
	return RawClient(t, nc)
}

// RawClient makes a client of a connection on which nothing was sent yet.
func RawClient(t testing.TB, nc net.Conn) *RawConn {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	Must(t, nc.SetDeadline(time.Now().Add(Patience)))
	c := newRawConn(nc)
	_, err := io.WriteString(nc, http2.ClientPreface)
	Must(t, err)
	Must(t, c.Framer.WriteSettings())
	return c
}

// Close closes the connection.
func (c *RawConn) Close() error { return c.nc.Close() }

// Frame gives the next frame that is neither SETTINGS nor PING, which it answers, nor WINDOW_UPDATE. Nil means that the
// connection is gone.
func (c *RawConn) Frame() http2.Frame {
	for {
		f, err := c.Framer.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.Framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = c.Framer.WritePing(true, f.Data)
			}
		case *http2.WindowUpdateFrame:
		default:
			return f
		}
	}
}

// Next gives the next header block. Nil means that the connection is gone.
func (c *RawConn) Next() *http2.MetaHeadersFrame {
	for {
		switch f := c.Frame().(type) {
		case nil:
			return nil
		case *http2.MetaHeadersFrame:
			return f
		}
	}
}

// Data gives the bytes of the next DATA frame that has any; a byte that no gRPC message begins with when the connection is gone.
func (c *RawConn) Data() []byte {
	for {
		switch f := c.Frame().(type) {
		case nil:
			return []byte{0xff}
		case *http2.DataFrame:
			if len(f.Data()) > 0 {
				return bytes.Clone(f.Data())
			}
		}
	}
}

// Result gives the status of the client's call, be it Trailers-Only or not, or the code of its RST_STREAM.
func (c *RawConn) Result() (code, message string) {
	for {
		switch f := c.Frame().(type) {
		case nil:
			return "connection lost", ""
		case *http2.RSTStreamFrame:
			return f.ErrCode.String(), ""
		case *http2.MetaHeadersFrame:
			if s := Values(f, "grpc-status"); len(s) > 0 {
				return s[0], strings.Join(Values(f, "grpc-message"), "")
			}
		}
	}
}

// Drain reads until the connection is gone.
func (c *RawConn) Drain() {
	for c.Frame() != nil {
	}
}

// Wait waits, at a peer, for the test's word, or for its end.
func (c *RawConn) Wait(word <-chan struct{}) {
	select {
	case <-word:
	case <-c.over:
	}
}

// Headers writes a header block of name, value, name, value…
func (c *RawConn) Headers(stream uint32, end bool, fields ...string) {
	c.Block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.Encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = c.Framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: c.Block.Bytes(), EndHeaders: true, EndStream: end,
	})
}

// Request opens a call to Method; fields follow the usual ones.
func (c *RawConn) Request(stream uint32, end bool, fields ...string) {
	c.Headers(stream, end, append([]string{":method", "POST", ":scheme", "http", ":path", Method, ":authority", "x",
		"content-type", "application/grpc", "te", "trailers"}, fields...)...)
}

// Respond begins a response; fields follow the usual ones.
func (c *RawConn) Respond(stream uint32, fields ...string) {
	c.Headers(stream, false, append([]string{":status", "200", "content-type", "application/grpc"}, fields...)...)
}

// Message writes one gRPC message in one DATA frame.
func (c *RawConn) Message(stream uint32, flag byte, body string) {
	b := binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(body)))
	_ = c.Framer.WriteData(stream, false, append(b, body...))
}

// Answer answers a call with one message and OK.
func (c *RawConn) Answer(stream uint32, body string) {
	c.Respond(stream)
	c.Message(stream, 0, body)
	c.Headers(stream, true, "grpc-status", "0")
}

// Values gives the values of the fields of that name, in order.
func Values(h *http2.MetaHeadersFrame, name string) (values []string) {
	for _, f := range h.Fields {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// Gzipped gives s in gzip's format.
func Gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

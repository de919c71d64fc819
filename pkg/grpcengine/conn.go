package grpcengine

import (
	"encoding/binary"
	"math"
	"net"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// noLimit stands for a peer that sets no SETTINGS_MAX_CONCURRENT_STREAMS.
const noLimit = math.MaxInt64

// conn is a connection to a peer. It reads along in the peer's first frame, which is its SETTINGS (RFC 9113 §3.4), because grpc-go
// keeps to the stream limit therein but tells nobody.
type conn struct {
	net.Conn
	pool *pool

	// streams is the number of calls that were given to the connection and have not ended; limit is how many there may be.
	streams, limit atomic.Int64
	// broken tells that reading failed before we closed the connection: the peer went, or the network did.
	broken, closed atomic.Bool

	// settings holds the start of what was read; nil once the first frame is through. It belongs to the reader.
	settings []byte
}

func newConn(nc net.Conn, p *pool) *conn {
	c := &conn{Conn: nc, pool: p, settings: make([]byte, 0, frameHeaderLen)}
	c.limit.Store(noLimit)
	return c
}

// take counts a stream if there is room for it.
func (c *conn) take() bool {
	for limit := c.limit.Load(); ; {
		n := c.streams.Load()
		if n >= limit {
			return false
		}
		if c.streams.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.settings != nil {
		c.sniff(p[:n])
	}
	if err != nil && !c.closed.Load() {
		c.broken.Store(true)
	}
	return n, err
}

func (c *conn) Close() error {
	if !c.closed.Swap(true) {
		c.pool.mu.Lock()
		delete(c.pool.conns, c)
		c.pool.mu.Unlock()
	}
	return c.Conn.Close()
}

// The shape of a frame (RFC 9113 §4.1) and of a setting (§6.5.1), in bytes.
const (
	frameHeaderLen = 9
	settingLen     = 6
	// maxSettings bounds what is kept of a peer that sends something else.
	maxSettings = 64 * settingLen
)

// sniff takes what was read until the first frame is whole.
func (c *conn) sniff(p []byte) {
	c.settings = append(c.settings, p[:min(len(p), frameHeaderLen+maxSettings)]...)
	b := c.settings
	if len(b) < frameHeaderLen {
		return
	}
	length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if http2.FrameType(b[3]) != http2.FrameSettings || length > maxSettings {
		c.settings = nil // grpc-go closes the connection of a peer that begins otherwise
		return
	}
	if len(b) < frameHeaderLen+length {
		return
	}
	for s := b[frameHeaderLen : frameHeaderLen+length]; len(s) >= settingLen; s = s[settingLen:] {
		if http2.SettingID(binary.BigEndian.Uint16(s)) == http2.SettingMaxConcurrentStreams {
			c.limit.Store(int64(binary.BigEndian.Uint32(s[2:])))
		}
	}
	c.settings = nil
}

package grpcengine

import (
	"encoding/binary"
	"math"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// noLimit stands for a peer that sets no SETTINGS_MAX_CONCURRENT_STREAMS.
const noLimit = math.MaxInt64

// conn is a connection to a peer. It reads along in the peer's frames for its SETTINGS (RFC 9113 §6.5), because grpc-go keeps to the
// limits therein but tells nobody.
type conn struct {
	net.Conn
	link *link
	born time.Time

	// streams is the number of calls that were given to the connection and have not ended; limit is how many there may be.
	streams, limit atomic.Int64
	// headerLimit is the peer's SETTINGS_MAX_HEADER_LIST_SIZE in bytes; 0 while it has set none.
	headerLimit atomic.Uint32
	// answered tells that the peer answered a call on it.
	answered atomic.Bool
	// broken tells that reading failed before we closed the connection: the peer went, or the network did.
	broken, closed atomic.Bool

	// Both belong to the reader: the frame header, with the payload if it is SETTINGS, as far as it has come, and how many bytes of
	// another frame's payload are still to come.
	part []byte
	skip int
}

func newConn(nc net.Conn, l *link) *conn {
	c := &conn{Conn: nc, link: l, born: time.Now(), part: make([]byte, 0, frameHeaderLen+8*settingLen)}
	c.limit.Store(noLimit)
	return c
}

// hasRoom tells whether the connection may be given another stream.
func (c *conn) hasRoom() bool { return c.streams.Load() < c.limit.Load() }

// take counts a stream if there is room for it.
func (c *conn) take() bool {
	for {
		n := c.streams.Load()
		if n >= c.limit.Load() {
			return false
		}
		if c.streams.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// give takes a stream back and wakes who waits for it.
func (c *conn) give() {
	c.streams.Add(-1)
	c.link.peer.wakeFirst()
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.follow(p[:n])
	if err != nil && !c.closed.Load() {
		c.broken.Store(true)
	}
	return n, err
}

func (c *conn) Close() error {
	if !c.closed.Swap(true) {
		p := c.link.peer.pool
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}
	return c.Conn.Close()
}

// The shape of a frame (RFC 9113 §4.1) and of a setting (§6.5.1), in bytes.
const (
	frameHeaderLen = 9
	settingLen     = 6
	// maxSettings bounds what is kept of one frame.
	maxSettings = 64 * settingLen
)

// follow goes from frame to frame through what was read. A peer that does not send frames leads it astray, which does no harm:
// grpc-go closes such a connection.
func (c *conn) follow(p []byte) {
	for len(p) > 0 {
		if c.skip > 0 {
			n := min(c.skip, len(p))
			c.skip -= n
			p = p[n:]
			continue
		}
		need := frameHeaderLen
		if len(c.part) >= frameHeaderLen {
			need += payloadLen(c.part)
		}
		n := min(need-len(c.part), len(p))
		c.part = append(c.part, p[:n]...)
		p = p[n:]
		switch {
		case len(c.part) < need:
			return
		case need == frameHeaderLen && isSettings(c.part):
			// Its payload comes next.
		case need == frameHeaderLen:
			c.skip = payloadLen(c.part)
			c.part = c.part[:0]
		default:
			c.set(c.part[frameHeaderLen:])
			c.part = c.part[:0]
		}
	}
}

func payloadLen(header []byte) int { return int(header[0])<<16 | int(header[1])<<8 | int(header[2]) }

// isSettings tells whether a frame's payload has settings that we want to see.
func isSettings(header []byte) bool {
	n := payloadLen(header)
	return http2.FrameType(header[3]) == http2.FrameSettings && http2.Flags(header[4])&http2.FlagSettingsAck == 0 &&
		0 < n && n <= maxSettings
}

// set takes the settings of one frame.
func (c *conn) set(settings []byte) {
	for s := settings; len(s) >= settingLen; s = s[settingLen:] {
		switch v := binary.BigEndian.Uint32(s[2:]); http2.SettingID(binary.BigEndian.Uint16(s)) {
		case http2.SettingMaxConcurrentStreams:
			c.limit.Store(int64(v))
			c.link.peer.wakeFirst()
		case http2.SettingMaxHeaderListSize:
			c.headerLimit.Store(v)
		}
	}
}

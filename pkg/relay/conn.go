package relay

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
)

// conn is one HTTP/2 connection, to a client (downstream) or to a peer (upstream).
//
// One goroutine reads it: it parses what one read brought, appends what that becomes to the connections concerned, and flushes
// each of them once, at the end of the batch. Everything about sending is guarded by mu, since readers of many connections send
// here.
//
// Locks: stream.mu may be held while a conn.mu is taken, never the other way round; two conn.mu are never held at once, and none
// while writing to a socket.
type conn struct {
	e  *Engine
	nc net.Conn
	// raw is for direct writes; nil where nc is no TCP or unix socket.
	raw syscall.RawConn
	// link is the upstream connection's place in its peer's pool; nil downstream.
	link *link

	// The fields below belong to the reader.
	dec        *hpack.Decoder
	fields     []hpack.Field
	block      blockState
	lastStream uint32 // the highest stream id that the client has used
	recvWindow int64  // what the other side may still send on the connection
	owed       uint32 // connection credit not yet returned
	touched    []*conn
	greeted    bool // the other side's first SETTINGS has come

	mu sync.Mutex
	// The fields below are guarded by mu.
	writing    bool // somebody writes: the flusher, or the writer goroutine
	out, spare []byte
	base       int64 // the place of out's first octet in all that was ever to be written
	wrote      int64 // how much of that was written
	credits    []credit
	enc        *hpack.Encoder
	sendWindow int64
	settings   peerSettings
	streams    map[uint32]*half
	blocked    []*half // halves with pending bytes that wait for the connection's window
	nextID     uint32  // upstream: the next stream id of ours
	goingAway  bool    // no new streams
	hangUp     bool    // close once out is empty
	closed     error
}

// peerSettings are those of the other side that matter to us.
type peerSettings struct {
	initialWindow int64
	maxFrame      int
	maxStreams    uint32
}

// blockState assembles a header block from HEADERS and CONTINUATION (RFC 9113 §4.3).
type blockState struct {
	stream uint32 // 0: none under way
	flags  byte
	buf    []byte
	frames int
}

// credit says that n octets, up to the given place in all that was ever written, came from a stream of another connection, whose
// other side may send as many again once they are written.
type credit struct {
	upTo int64
	from *half
	n    uint32
}

const (
	readBufferSize = 64 << 10
	// recvConnWindow is what a peer may send on a connection before we return credit. Credit is returned on receipt, so that no
	// stream starves another; the streams' windows bound what is held.
	recvConnWindow = 16 << 20
	// recvStreamWindow is what may be under way on one stream; its credit is returned when the other side's socket has taken the
	// octets.
	recvStreamWindow = 1 << 20
	// keepBuffer is the largest write buffer that is kept for the next batch.
	keepBuffer = 256 << 10
	// maxBlockFrames bounds the CONTINUATION frames of one block (CVE-2024-27316 and its kin).
	maxBlockFrames = 64
)

func newConn(e *Engine, nc net.Conn) *conn {
	c := &conn{
		e: e, nc: nc, dec: hpack.NewDecoder(hpack.DefaultTableSize, int(e.cfg.Limits.HeaderBytes)), enc: hpack.NewEncoder(),
		recvWindow: recvConnWindow, sendWindow: defaultWindow, streams: make(map[uint32]*half), nextID: 1,
		settings: peerSettings{initialWindow: defaultWindow, maxFrame: minMaxFrameSize, maxStreams: 1<<32 - 1},
	}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	return c
}

// connError ends a connection with GOAWAY.
type connError struct {
	code errCode
	why  string
}

func (e connError) Error() string {
	return fmt.Sprintf("%s (HTTP/2 error 0x%x)", e.why, uint32(e.code))
}

// streamError ends one stream with RST_STREAM and leaves the connection to the others.
type streamError struct {
	stream uint32
	code   errCode
	why    string
}

func (e streamError) Error() string { return e.why }

// errGone is the end of a connection that the other side closed.
var errGone = errors.New("connection closed")

// serve reads frames until the connection ends, and gives the reason.
func (c *conn) serve() error {
	buf := make([]byte, readBufferSize)
	start, end := 0, 0
	for {
		n, err := c.nc.Read(buf[end:])
		end += n
		for err == nil || n > 0 {
			f, size, ok := parseFrame(buf[start:end])
			if size > frameHeaderLen+minMaxFrameSize {
				return c.end(connError{codeFrameSize, "frame larger than SETTINGS_MAX_FRAME_SIZE"})
			}
			if !ok {
				break
			}
			start += size
			if ferr := c.frame(&f); ferr != nil {
				var se streamError
				if !errors.As(ferr, &se) {
					return c.end(ferr)
				}
				c.resetBySelf(se)
			}
		}
		c.flushTouched()
		if err != nil {
			return c.end(errGone)
		}
		if start == end {
			start, end = 0, 0
		} else if start > 0 {
			end = copy(buf, buf[start:end])
			start = 0
		}
	}
}

// end sends what is still to be said about a connection error.
func (c *conn) end(err error) error {
	var ce connError
	if errors.As(err, &ce) {
		c.mu.Lock()
		c.out = appendGoAway(c.out, c.lastStream, ce.code, ce.why)
		c.hangUp = true
		c.mu.Unlock()
		c.touch(c)
	}
	c.flushTouched()
	return err
}

// frame handles one frame.
func (c *conn) frame(f *frame) error {
	if c.block.stream != 0 && (f.kind != frameContinuation || f.stream != c.block.stream) {
		return connError{codeProtocol, "a header block was interrupted"}
	}
	if !c.greeted && (f.kind != frameSettings || f.has(flagAck)) {
		return connError{codeProtocol, "the first frame is not SETTINGS"}
	}
	switch f.kind {
	case frameData:
		return c.data(f)
	case frameHeaders:
		return c.headers(f)
	case frameContinuation:
		return c.continuation(f)
	case framePriority:
		return c.priority(f)
	case frameRSTStream:
		return c.rst(f)
	case frameSettings:
		return c.applySettings(f)
	case framePing:
		return c.ping(f)
	case frameGoAway:
		return c.goAway(f)
	case frameWindowUpdate:
		return c.windowUpdate(f)
	case framePushPromise:
		return connError{codeProtocol, "PUSH_PROMISE, which was not allowed"}
	}
	return nil // unknown frames are ignored (RFC 9113 §5.5)
}

// touch notes that a connection has something to be flushed at the end of the batch.
func (c *conn) touch(other *conn) {
	for _, t := range c.touched {
		if t == other {
			return
		}
	}
	c.touched = append(c.touched, other)
}

func (c *conn) flushTouched() {
	if len(c.touched) > 0 {
		c.touched = flush(c.touched)
	}
}

// lookup finds a stream's half on this connection.
func (c *conn) lookup(id uint32) *half {
	c.mu.Lock()
	h := c.streams[id]
	c.mu.Unlock()
	return h
}

// idle tells whether a stream id was never used. A frame on such a stream is a connection error (RFC 9113 §5.1).
func (c *conn) idle(id uint32) bool {
	if c.link == nil {
		return id%2 == 0 || id > c.lastStream
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return id%2 == 0 || id >= c.nextID
}

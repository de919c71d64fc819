package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
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
	// raw is for direct writes and reads; nil where the octets are not those of a socket (TLS). tcp is the socket in any case, for
	// TCP_INFO; nil if there is none.
	raw, tcp syscall.RawConn
	// link is the upstream connection's place in its peer's pool; nil downstream.
	link *link

	// broken is why the connection was closed from outside of its reader.
	broken atomic.Pointer[error]

	// isLate says that the connection is among the engine's late ones.
	isLate atomic.Bool

	// reading belongs to who has set Engine.relieving.
	reading reading

	// The fields below belong to the reader.
	in         input
	dec        *hpack.Decoder
	fields     []hpack.Field
	block      blockState
	lastStream uint32 // the highest stream id that the client has used
	recvWindow int64  // what the other side may still send on the connection
	owed       uint32 // connection credit not yet returned
	touched    []*conn
	answers    bool  // a PING was answered in the batch in hand
	resized    bool  // SETTINGS came in it, so that windows may have opened
	greeted    bool  // the other side's first SETTINGS has come
	now        int64 // when the batch in hand was read, on the engine's clock
	kept       int64 // replay bytes more, or fewer, since the batch began
	resets     bucket
	probe      probe

	// The fields below belong to who set writing. tryWrite is writable as a value, made once.
	tryWrite func(fd uintptr)
	direct   []byte
	directN  int

	// deadlines are those of a client's calls. It has a lock of its own, which is taken last.
	deadlines deadlines

	mu sync.Mutex
	// The fields below are guarded by mu.
	writing      bool // somebody writes: the flusher, or the writer goroutine
	failed       bool // a write has failed; writing stays set
	out          []byte
	base         int64 // the place of out's first octet in all that was ever to be written
	wrote        int64 // how much of that was written
	tookAt       int64 // when the writer goroutine began, or the socket last took what it had, on the engine's clock; 0: there is none
	accounted    int64 // how much of the engine's buffered is ours
	pendingBytes int   // the sum of what waits on the halves
	blockBytes   int   // what has come of a header block that is not whole yet
	credits      []credit
	control      int // frames in out that count as control frames: see put.go
	enc          *hpack.Encoder
	sendWindow   int64
	widest       int64 // no stream's window is larger, relative to the initial one
	settings     peerSettings
	streams      streamTable
	blocked      []*half // halves with pending bytes that wait for the connection's window, or for room in out
	stale        int     // how many of them have ended
	nextID       uint32  // upstream: the next stream id of ours
	lastOpened   uint32  // downstream: the highest stream id that was taken on
	resetsSent   recentResets
	idleSince    int64 // downstream: since when the janitor has seen no calls, on the engine's clock; 0: not since the last call
	prefaced     bool  // downstream: our side of the preface was sent
	leaving      bool  // downstream: the first GOAWAY was sent
	leavingWhy   string
	goingAway    bool // no new streams
	hangUp       bool // close once out is empty
	closed       error
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
	// selfish says that the stream was made to depend on itself, a stream error (RFC 7540 §5.3.1), once the block is decoded: the tables
	// must not get out of step.
	selfish bool
}

// credit says that n octets, up to the given place in all that was ever written, came from a stream of another connection, whose
// other side may send as many again once they are written.
type credit struct {
	upTo int64
	from *half
	n    uint32
}

const (
	// recvConnWindow is what a peer may send on a connection before we return credit. Credit is returned on receipt, so that no
	// stream starves another; the streams' windows bound what is held.
	recvConnWindow = 64 << 20
	// recvStreamWindow is what may be under way on one stream at first; its credit is returned when the other side's socket has
	// taken the octets. It grows with the path (probe.go).
	recvStreamWindow = 64 << 10
	// maxBlockFrames bounds the CONTINUATION frames of one block (CVE-2024-27316 and its kin).
	maxBlockFrames = 64
)

func newConn(e *Engine, nc net.Conn) *conn {
	c := &conn{
		e: e, nc: nc, dec: hpack.NewDecoder(hpack.DefaultTableSize, int(e.cfg.Limits.HeaderBytes)), enc: hpack.NewEncoder(),
		recvWindow: recvConnWindow, sendWindow: defaultWindow, nextID: 1,
		settings: peerSettings{initialWindow: defaultWindow, maxFrame: minMaxFrameSize, maxStreams: 1<<32 - 1},
	}
	c.raw = rawConn(nc)
	if c.tcp = c.raw; c.raw == nil {
		if inner, ok := nc.(interface{ NetConn() net.Conn }); ok {
			c.tcp = rawConn(inner.NetConn())
		}
	}
	c.in.init(nc, c.raw)
	c.tryWrite = c.writable
	return c
}

func rawConn(nc net.Conn) syscall.RawConn {
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
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

// Ends of a connection that need no GOAWAY.
var (
	errGone    = errors.New("the other side closed the connection")
	errPreface = errors.New("no HTTP/2 preface")
)

// serve reads frames until the connection ends, and gives the reason.
func (c *conn) serve() error {
	greeted := c.link != nil // a peer's preface is its SETTINGS alone
	for {
		if err := c.in.more(); err != nil {
			if why := c.broken.Load(); why != nil {
				err = *why
			} else if errors.Is(err, io.EOF) {
				err = errGone
			} else if !c.greeted && c.isClient() && errors.Is(err, os.ErrDeadlineExceeded) {
				err = c.tooSlow()
			}
			return c.end(err)
		}
		c.now = c.e.clock()
		if !greeted {
			n, done, err := c.preamble(c.in.unparsed())
			if err != nil {
				return c.end(err)
			}
			if greeted = done; !done {
				continue
			}
			c.in.taken(n)
		}
		if err := c.batch(); err != nil {
			return c.end(err)
		}
		if c.link != nil {
			c.link.heard(c.now)
		}
		c.endBatch()
	}
}

// batch handles all frames that were read whole.
func (c *conn) batch() error {
	for {
		f, size, ok := parseFrame(c.in.unparsed())
		if size > frameHeaderLen+minMaxFrameSize {
			return connError{codeFrameSize, "frame larger than SETTINGS_MAX_FRAME_SIZE"}
		}
		if !ok {
			return nil
		}
		c.in.taken(size)
		if err := c.frame(&f); err != nil {
			se, ok := err.(streamError)
			if !ok {
				return err
			}
			if err := c.resetBySelf(se); err != nil {
				return err
			}
		}
	}
}

// endBatch sends what the batch has brought.
func (c *conn) endBatch() {
	if c.kept != 0 {
		c.e.replay.Add(c.kept)
		c.kept = 0
	}
	if c.resized {
		c.resumeAll()
	}
	if c.answers {
		c.answered()
	}
	c.flushTouched()
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
	if !c.touches(other) {
		c.touched = append(c.touched, other)
	}
}

func (c *conn) touches(other *conn) bool { return slices.Contains(c.touched, other) }

func (c *conn) flushTouched() {
	if len(c.touched) > 0 {
		c.touched = flush(c.touched)
	}
}

// lookup finds a stream's half on this connection.
func (c *conn) lookup(id uint32) *half {
	c.mu.Lock()
	h := c.streams.get(id)
	c.mu.Unlock()
	return h
}

// idle tells whether a stream id was never used. A frame on such a stream is a connection error (RFC 9113 §5.1).
func (c *conn) idle(id uint32) bool {
	if c.link == nil {
		return id%2 == 0 || id > c.lastStream
	}
	c.mu.Lock()
	next := c.nextID
	c.mu.Unlock()
	return id%2 == 0 || id >= next
}

// forgetAll takes all halves off a connection that has ended, and gives them. The caller holds mu.
func (c *conn) forgetAll() []*half {
	all := make([]*half, 0, c.streams.len())
	for h := range c.streams.all() {
		all = append(all, h)
	}
	for _, h := range all {
		h.forget()
	}
	return all
}

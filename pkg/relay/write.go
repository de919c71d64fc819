package relay

import (
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// outHigh is how much is encoded ahead of the socket: DATA beyond it waits on its half, where a reset still frees it.
	outHigh = 96 << 10
	// outSize is the size of the buffers that connections share. A connection with nothing to write has none.
	outSize = 128 << 10
)

var outBuffers = sync.Pool{New: func() any { return new([outSize]byte) }}

// creditRoom is how many credits one write mostly brings at the most; beyond it they are allocated.
const creditRoom = 64

var creditRooms = sync.Pool{New: func() any { return new([creditRoom]credit) }}

// flush writes what the connections have to send, without waiting: what a socket does not take goes to a writer goroutine of that
// connection. What is written gives credit to the streams that the octets came from, on other connections, which are flushed in
// turn. It returns the emptied list for reuse. No lock is held by the caller.
func flush(list []*conn) []*conn {
	if len(list) == 0 {
		return list
	}
	e := list[0].e
	room := creditRooms.Get().(*[creditRoom]credit)
	got, most := room[:0], 0
	for i := 0; i < len(list); i++ {
		got = list[i].write(got[:0])
		list = accept(list, i+1, got)
		most = max(most, len(got))
	}
	clear(room[:min(most, creditRoom)]) // or the halves of calls that are over would live on
	creditRooms.Put(room)
	clear(list)
	if e.buffered.Load() > e.cfg.Limits.BufferedBytes {
		e.relieve()
	}
	return list[:0]
}

// accept returns credit to where octets came from, and adds the connections that now have something to send to the list, whose
// first done entries have had their turn: what is appended to those needs another. Most credits of one flush go to one connection,
// which is locked once for them.
func accept(list []*conn, done int, credits []credit) []*conn {
	var locked *conn
	due := false
	for i := range credits {
		h := credits[i].from
		if h.conn != locked {
			if locked != nil {
				locked.mu.Unlock()
			}
			locked, due = h.conn, false
			locked.mu.Lock()
		}
		if h.credit(credits[i].n) && !due {
			due = true
			list = appendConn(list, done, locked)
		}
	}
	if locked != nil {
		locked.mu.Unlock()
	}
	return list
}

func appendConn(list []*conn, done int, c *conn) []*conn {
	for _, have := range list[done:] {
		if have == c {
			return list
		}
	}
	return append(list, c)
}

// maxRounds is how often one who flushes a connection writes what others have added meanwhile. Then a writer goroutine goes on, so that
// nobody's own connection waits for those of others.
const maxRounds = 8

// write writes as much as the socket takes now, unless somebody else is writing, and appends the credits of what was written.
func (c *conn) write(got []credit) []credit {
	c.mu.Lock()
	if c.writing {
		c.account()
		flooded := c.flooded()
		c.mu.Unlock()
		if flooded { // a GOAWAY would wait behind what is not read
			c.sever(errors.New(exceeded(limitControlFrames, int64(c.e.cfg.Limits.ControlFrames), "too many answers are not read")))
		}
		return got
	}
	for round := 0; len(c.out) > 0; round++ {
		c.writing = true
		buf := c.takeOut()
		c.mu.Unlock()
		n := 0
		if round < maxRounds {
			n = c.writeDirect(buf)
		}
		c.mu.Lock()
		got = c.written(n, got)
		if n < len(buf) {
			c.tookAt = c.e.clock()
			c.account()
			c.mu.Unlock()
			if c.e.enter() {
				go c.writer(buf, buf[n:])
			} else {
				_ = c.nc.Close()
			}
			return got
		}
		giveBack(buf)
		c.resumeBlocked()
	}
	c.writing = false
	c.account()
	over := c.hangUp
	c.mu.Unlock()
	if over {
		c.endSending()
	}
	return got
}

// takeOut takes what is to be written; meanwhile others append to another buffer. The caller holds mu.
func (c *conn) takeOut() []byte {
	buf := c.out
	c.base += int64(len(buf))
	c.out, c.control = nil, 0
	return buf
}

// giveBack gives a buffer back to those that connections share.
func giveBack(buf []byte) {
	if cap(buf) == outSize {
		outBuffers.Put((*[outSize]byte)(buf[:outSize]))
	}
}

// written takes the credits of the next n octets. The caller holds mu.
func (c *conn) written(n int, got []credit) []credit {
	c.wrote += int64(n)
	done := 0
	for done < len(c.credits) && c.credits[done].upTo <= c.wrote {
		done++
	}
	if done == 0 {
		return got
	}
	got = append(got, c.credits[:done]...)
	left := copy(c.credits, c.credits[done:])
	clear(c.credits[left:])
	c.credits = c.credits[:left]
	return got
}

// mayHaveWritten is the place up to which octets may have reached the other side: while somebody is within a write, all that it was
// given. The caller holds mu.
func (c *conn) mayHaveWritten() int64 {
	if c.writing && !c.failed {
		return c.base
	}
	return c.wrote
}

// endSending ends the sending side of a connection that was to be closed once everything was said. The other side reads what is
// under way and closes; if it does not, the reader's deadline ends the connection. No lock is held: TLS writes a last record.
func (c *conn) endSending() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
		return
	}
	_ = c.nc.Close()
}

// flooded tells, once, that more control frames wait on a connection than are allowed: its other side makes us answer and does not
// read. The caller holds mu.
func (c *conn) flooded() bool {
	if c.control <= c.e.cfg.Limits.ControlFrames || c.closed != nil || c.hangUp {
		return false
	}
	c.e.hit(limitControlFrames)
	c.hangUp = true
	return true
}

// writeDirect writes what the socket takes without waiting. RawConn.Write would wait for the lock that a parked Conn.Write holds;
// Control does not, and as long as writing is ours there is no other.
func (c *conn) writeDirect(buf []byte) int {
	if c.raw == nil {
		return 0
	}
	c.direct, c.directN = buf, 0
	err := c.raw.Control(c.tryWrite)
	c.direct = nil
	if err != nil {
		return 0
	}
	return c.directN
}

// writable is the part of writeDirect that has the file descriptor.
func (c *conn) writable(fd uintptr) {
	for c.directN < len(c.direct) {
		n, err := writeNow(fd, c.direct[c.directN:])
		if err != nil || n == 0 {
			return // EAGAIN, or an error that the writer goroutine will meet again
		}
		c.directN += n
	}
}

// writePiece is how much the writer goroutine writes at most where only a write's end tells what was taken (TLS): a TLS record.
const writePiece = 16 << 10

// writer writes what the socket did not take at once, and what comes meanwhile, until nothing is left. With each piece that is taken its
// credits are returned, and it is noted that the other side reads.
func (c *conn) writer(buf, rest []byte) {
	defer c.e.tasks.Done()
	var got []credit
	var list []*conn
	await := c.writeSome()
	for {
		n, err := await(rest)
		c.mu.Lock()
		c.tookAt = c.e.clock()
		got = c.written(n, got[:0])
		if err != nil {
			// The reader finds out and ends the streams. It stays ours to write, so nobody tries again.
			c.failed = true
			c.account()
			c.mu.Unlock()
			_ = c.nc.Close()
			return
		}
		done, over := false, false
		if rest = rest[n:]; len(rest) == 0 {
			giveBack(buf)
			c.resumeBlocked()
			done = len(c.out) == 0
			over = done && c.hangUp
			if done {
				c.writing, c.tookAt = false, 0
			} else {
				buf = c.takeOut()
				rest = buf
			}
		}
		c.account()
		c.mu.Unlock()
		if over {
			c.endSending()
		}
		list = flush(accept(list, 0, got))
		if done {
			return
		}
	}
}

// writeSome gives what waits until the socket takes some of what it is given, and tells how much that was.
func (c *conn) writeSome() func([]byte) (int, error) {
	if c.raw == nil {
		return func(p []byte) (int, error) {
			p = p[:min(len(p), writePiece)]
			n, err := c.nc.Write(p)
			if err == nil && n < len(p) {
				err = io.ErrShortWrite
			}
			return n, err
		}
	}
	var p []byte
	var n int
	var failed error
	try := func(fd uintptr) bool {
		n, failed = writeNow(fd, p)
		return failed != unix.EAGAIN
	}
	return func(some []byte) (int, error) {
		p = some
		if err := c.raw.Write(try); err != nil {
			return 0, err
		}
		if failed == nil && n == 0 {
			failed = io.ErrShortWrite
		}
		return n, failed
	}
}

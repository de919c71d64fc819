package relay

import (
	"golang.org/x/sys/unix"
)

// flush writes what the connections have to send, without waiting: what a socket does not take goes to a writer goroutine of that
// connection. What is written gives credit to the streams that the octets came from, on other connections, which are flushed in
// turn. It returns the emptied list for reuse.
func flush(list []*conn) []*conn {
	var got []credit
	for i := 0; i < len(list); i++ {
		got = list[i].write(got[:0])
		list = accept(list, i+1, got)
	}
	clear(list)
	return list[:0]
}

// accept returns credit to where octets came from, and adds the connections that now have something to send to the list, whose
// first done entries have had their turn: what is appended to those needs another.
func accept(list []*conn, done int, credits []credit) []*conn {
	for _, cr := range credits {
		if cr.from.returnCredit(cr.n) {
			list = appendConn(list, done, cr.from.conn)
		}
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

// write writes as much as the socket takes now, unless somebody else is writing, and appends the credits of what was written.
func (c *conn) write(got []credit) []credit {
	c.mu.Lock()
	if c.writing || len(c.out) == 0 {
		c.hangUpIfDone()
		c.mu.Unlock()
		return got
	}
	c.writing = true
	for len(c.out) > 0 {
		buf := c.takeOut()
		c.mu.Unlock()
		n := c.writeNow(buf)
		c.mu.Lock()
		got = c.written(n, got)
		if n < len(buf) {
			c.mu.Unlock()
			c.e.tasks.Add(1)
			go c.writer(buf, buf[n:])
			return got
		}
		c.giveBack(buf)
	}
	c.writing = false
	c.hangUpIfDone()
	c.mu.Unlock()
	return got
}

// takeOut takes what is to be written; meanwhile others append to the spare buffer. The caller holds mu.
func (c *conn) takeOut() []byte {
	buf := c.out
	c.base += int64(len(buf))
	c.out, c.spare = c.spare[:0], nil
	return buf
}

func (c *conn) giveBack(buf []byte) {
	if cap(buf) <= keepBuffer {
		c.spare = buf[:0]
	}
}

// written takes the credits of the next n octets. The caller holds mu.
func (c *conn) written(n int, got []credit) []credit {
	c.wrote += int64(n)
	done := 0
	for done < len(c.credits) && c.credits[done].upTo <= c.wrote {
		done++
	}
	got = append(got, c.credits[:done]...)
	left := copy(c.credits, c.credits[done:])
	clear(c.credits[left:])
	c.credits = c.credits[:left]
	return got
}

// hangUpIfDone closes a connection that was to be closed once everything was said. The caller holds mu.
func (c *conn) hangUpIfDone() {
	if c.hangUp && len(c.out) == 0 && !c.writing {
		_ = c.nc.Close()
	}
}

// writeNow writes what the socket takes without waiting. RawConn.Write would wait for the lock that a parked Conn.Write holds;
// Control does not, and as long as writing is ours there is no other.
func (c *conn) writeNow(buf []byte) int {
	if c.raw == nil {
		return 0
	}
	n := 0
	err := c.raw.Control(func(fd uintptr) {
		for n < len(buf) {
			m, err := unix.Write(int(fd), buf[n:])
			if err == unix.EINTR {
				continue
			}
			if err != nil || m <= 0 {
				return // EAGAIN, or an error that the writer goroutine will meet again
			}
			n += m
		}
	})
	if err != nil {
		return 0
	}
	return n
}

// writer writes what the socket did not take at once, and what comes meanwhile, until nothing is left.
func (c *conn) writer(buf, rest []byte) {
	defer c.e.tasks.Done()
	var got []credit
	for {
		n, err := c.nc.Write(rest)
		c.mu.Lock()
		got = c.written(n, got[:0])
		if err != nil {
			c.writing = false
			c.mu.Unlock()
			_ = c.nc.Close() // the reader finds out and ends the streams
			return
		}
		c.giveBack(buf)
		done := len(c.out) == 0
		if done {
			c.writing = false
			c.hangUpIfDone()
		} else {
			buf = c.takeOut()
			rest = buf
		}
		c.mu.Unlock()
		flush(accept(nil, 0, got))
		if done {
			return
		}
	}
}

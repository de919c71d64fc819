package relay

import (
	"io"
	"time"
)

// end says what is still to be said about a connection error.
func (c *conn) end(err error) error {
	c.mu.Lock()
	if ce, ok := err.(connError); ok {
		last := c.lastStream
		if c.goingAway {
			last = c.lastOpened // the number of one GOAWAY is not above that of the one before (RFC 9113 §6.8)
		}
		c.putGoAway(last, ce.code, ce.why)
	}
	c.hangUp = true
	c.mu.Unlock()
	c.touch(c)
	c.endBatch()
	return err
}

const (
	// lingerTime and lingerBytes bound how long, and how much, is read from a connection that is over. Closing a socket with unread
	// octets resets it, and a last GOAWAY that the other side has not read yet is lost with that.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// unreadTime is how long the other side of a connection that has no more calls may take to read what was still to be said.
const unreadTime = 10 * time.Second

// hangUpSoon has the connection closed once everything is written, or after unreadTime. The caller holds mu.
func (c *conn) hangUpSoon() {
	c.hangUp = true
	_ = c.nc.SetWriteDeadline(time.Now().Add(unreadTime)) // it does not wait, and a write that does ends with it
}

// linger lets the last frames reach the other side before the connection is closed.
func (c *conn) linger() {
	c.mu.Lock()
	c.hangUp = true
	c.mu.Unlock()
	_ = c.nc.SetDeadline(time.Now().Add(lingerTime))
	flush([]*conn{c})
	_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
}

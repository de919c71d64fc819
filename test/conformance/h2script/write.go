package h2script

import (
	"time"

	"golang.org/x/net/http2"
)

// write has f write frames. Errors, also that the other side has not read for Patience, are the caller's to judge: a script that
// breaks the rules may find the connection closed.
func (c *Conn) write(f func(*http2.Framer) error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.nc.SetWriteDeadline(time.Now().Add(Patience))
	return f(c.framer)
}

// Raw writes bytes as they are.
func (c *Conn) Raw(b []byte) {
	_ = c.write(func(*http2.Framer) error {
		_, err := c.nc.Write(b)
		return err
	})
}

// Frame writes any frame.
func (c *Conn) Frame(typ http2.FrameType, flags http2.Flags, stream uint32, payload []byte) {
	_ = c.write(func(f *http2.Framer) error { return f.WriteRawFrame(typ, flags, stream, payload) })
}

// SendSettings sends SETTINGS. They count for what we receive once the other side has acknowledged them.
func (c *Conn) SendSettings(settings ...http2.Setting) {
	_ = c.write(func(f *http2.Framer) error {
		c.mu.Lock()
		c.flow.pending = append(c.flow.pending, settings)
		c.mu.Unlock()
		return f.WriteSettings(settings...)
	})
}

// Settings sends SETTINGS and awaits the ACK of all that were sent.
func (c *Conn) Settings(settings ...http2.Setting) {
	c.t.Helper()
	c.SendSettings(settings...)
	next := 0
	e, ok := c.await(&next, Patience, func(e *Event) bool { return e.Closed || e.Ack() && len(c.flow.pending) == 0 })
	if !ok || e.Closed {
		c.t.Fatalf("the %s gets no ACK of its SETTINGS", c.Name)
	}
}

// Credit gives credit: to the connection for stream 0.
func (c *Conn) Credit(stream uint32, n uint32) {
	_ = c.write(func(f *http2.Framer) error {
		c.mu.Lock()
		c.flow.credit(stream, int64(n))
		c.mu.Unlock()
		return f.WriteWindowUpdate(stream, n)
	})
}

// Ping sends a PING and awaits its ACK: whatever the other side was sent before has been read.
func (c *Conn) Ping(id byte) {
	c.t.Helper()
	c.SendPing(id)
	c.Await("PING ACK", func(e *Event) bool { return e.Type == http2.FramePing && e.Ack() && e.Data[0] == id })
}

// SendPing sends a PING.
func (c *Conn) SendPing(id byte) {
	_ = c.write(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{id}) })
}

// GoAway sends a GOAWAY.
func (c *Conn) GoAway(last uint32, code http2.ErrCode) {
	_ = c.write(func(f *http2.Framer) error { return f.WriteGoAway(last, code, nil) })
}

// Flood writes unit, which is one or more whole frames, count times, in large writes. It stops when the other side does not read for
// stall or closes the connection, and gives how many bytes were written.
func (c *Conn) Flood(unit []byte, count int, stall time.Duration) (written int) {
	const batch = 64 << 10
	per := max(1, batch/len(unit))
	block := make([]byte, 0, per*len(unit))
	for range per {
		block = append(block, unit...)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	for ; count > 0; count -= per {
		_ = c.nc.SetWriteDeadline(time.Now().Add(stall))
		n, err := c.nc.Write(block[:min(per, count)*len(unit)])
		written += n
		if err != nil {
			break
		}
	}
	return written
}

// FrameBytes gives a frame as bytes, for [Conn.Flood] and [Conn.Raw].
func FrameBytes(typ http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(typ), byte(flags), byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}
	return append(b, payload...)
}

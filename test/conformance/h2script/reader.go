package h2script

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// readAll is the connection's reader: it records every frame and does what Options ask for.
func (c *Conn) readAll() {
	defer close(c.read)
	defer c.nc.Close()
	f := http2.NewFramer(io.Discard, bufio.NewReaderSize(c.nc, 8<<10))
	f.SetMaxReadFrameSize(c.maxFrame())
	dec := hpack.NewDecoder(4096, nil)
	var block []byte
	var head Event
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			c.record(Event{Closed: true, Err: reason(err)})
			return
		}
		h := fr.Header()
		e := Event{Type: h.Type, Flags: h.Flags, Stream: h.StreamID}
		switch fr := fr.(type) {
		case *http2.HeadersFrame:
			head, block = e, append(block[:0], fr.HeaderBlockFragment()...)
			if !fr.HeadersEnded() {
				continue
			}
			e, err = c.decode(dec, head, block)
		case *http2.ContinuationFrame:
			if block = append(block, fr.HeaderBlockFragment()...); !fr.HeadersEnded() {
				continue
			}
			e, err = c.decode(dec, head, block)
		case *http2.DataFrame:
			e.Data = bytes.Clone(fr.Data())
		case *http2.PingFrame:
			e.Data = bytes.Clone(fr.Data[:])
		case *http2.RSTStreamFrame:
			e.Code = fr.ErrCode
		case *http2.GoAwayFrame:
			e.Code, e.Number = fr.ErrCode, fr.LastStreamID
		case *http2.WindowUpdateFrame:
			e.Number = fr.Increment
		case *http2.SettingsFrame:
			_ = fr.ForeachSetting(func(s http2.Setting) error {
				e.Settings = append(e.Settings, s)
				return nil
			})
		}
		if err == nil {
			err = c.take(e, int64(h.Length))
		}
		if err != nil {
			c.record(Event{Closed: true, Err: err})
			return
		}
	}
}

// maxFrame is the largest frame that we have announced.
func (c *Conn) maxFrame() uint32 {
	size := uint32(16384)
	for _, s := range c.opts.Settings {
		if s.ID == http2.SettingMaxFrameSize {
			size = s.Val
		}
	}
	return size
}

// reason is nil for an ordinary end of a connection.
func reason(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

func (c *Conn) decode(dec *hpack.Decoder, head Event, block []byte) (Event, error) {
	c.mu.Lock()
	if c.flow.tableSizeNewer {
		c.flow.tableSizeNewer = false
		dec.SetAllowedMaxDynamicTableSize(c.flow.tableSize)
		if c.flow.tableSize < 4096 {
			dec.SetMaxDynamicTableSize(c.flow.tableSize)
		}
	}
	c.mu.Unlock()
	fields, err := dec.DecodeFull(block)
	if err != nil {
		return head, fmt.Errorf("a header block does not decode: %w", err)
	}
	head.Fields = slices.Clone(fields)
	return head, nil
}

// take records a frame and answers it. length is the frame's, padding included.
func (c *Conn) take(e Event, length int64) error {
	c.mu.Lock()
	var fresh *Stream
	switch {
	case e.Type == http2.FrameSettings && e.Ack():
		c.flow.acked()
	case e.Type == http2.FrameSettings:
		c.flow.theirs(e.Settings)
	case e.Type == http2.FrameWindowUpdate:
		c.flow.credited(e.Stream, int64(e.Number))
	case e.Type == http2.FrameData:
		if err := c.flow.received(e.Stream, length); err != nil {
			c.mu.Unlock()
			return err
		}
	case e.Type == http2.FrameHeaders && c.requests != nil && e.Stream > c.lastID:
		c.lastID = e.Stream
		c.openLocked(e.Stream)
		fresh = &Stream{ID: e.Stream, Conn: c, Request: e.Fields, ended: e.End(), next: len(c.events) + 1}
	}
	if e.Type == http2.FrameRSTStream || e.End() {
		c.halfLocked(e.Stream, e.Type == http2.FrameRSTStream)
	}
	c.events = append(c.events, e)
	c.changedLocked()
	c.mu.Unlock()

	switch {
	case e.Ack():
	case e.Type == http2.FrameSettings:
		if !c.opts.NoSettings {
			_ = c.write((*http2.Framer).WriteSettingsAck)
		}
	case e.Type == http2.FramePing:
		_ = c.write(func(f *http2.Framer) error { return f.WritePing(true, [8]byte(e.Data)) })
	case e.Type == http2.FrameData && length > 0:
		if c.opts.Credit != CreditNone {
			c.Credit(0, uint32(length))
		}
		if c.opts.Credit == CreditAll && !e.End() {
			c.Credit(e.Stream, uint32(length))
		}
	}
	switch {
	case fresh == nil:
	case c.opts.Answer != nil:
		c.opts.Answer(fresh)
	default:
		c.requests.put(fresh)
	}
	return nil
}

func (c *Conn) record(e Event) {
	c.mu.Lock()
	c.closed = true
	c.events = append(c.events, e)
	c.changedLocked()
	c.mu.Unlock()
}

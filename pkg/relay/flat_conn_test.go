package relay_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// flatPatience is how long a raw end waits for the engine. It is reached only when something hangs.
const flatPatience = 30 * time.Second

// flatConn is one end of an HTTP/2 connection that costs next to nothing: frames are parsed in place, header blocks are made once,
// and once it runs it allocates nothing. It belongs to one goroutine.
type flatConn struct {
	nc  net.Conn
	buf []byte
	r   int // from here on buf was not parsed
	w   int // up to here buf was read
	out []byte
	// window is what may be sent on the connection.
	window int64
	// look, if it is not nil, is shown every frame.
	look func(flatFrame) error
}

// flatFrame is valid until the next one is read.
type flatFrame struct {
	typ     http2.FrameType
	flags   http2.Flags
	stream  uint32
	payload []byte
}

var (
	errFlatTooLarge = errors.New("a frame over 16,384 octets came")
	errFlatGoAway   = errors.New("GOAWAY came")
)

func newFlatConn(nc net.Conn) *flatConn {
	return &flatConn{nc: nc, buf: make([]byte, 64<<10), window: 65535}
}

// parsed tells whether a whole frame has been read already.
func (c *flatConn) parsed() bool {
	b := c.buf[c.r:c.w]
	return len(b) >= 9 && len(b) >= 9+flatLength(b)
}

func flatLength(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// next gives the next frame.
func (c *flatConn) next() (flatFrame, error) {
	for !c.parsed() {
		if b := c.buf[c.r:c.w]; len(b) >= 9 && flatLength(b) > 16384 {
			return flatFrame{}, fmt.Errorf("%w: %d", errFlatTooLarge, flatLength(b))
		}
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
		n, err := c.nc.Read(c.buf[c.w:])
		if c.w += n; n == 0 && err != nil {
			return flatFrame{}, err
		}
	}
	b := c.buf[c.r:]
	n := 9 + flatLength(b)
	c.r += n
	return flatFrame{http2.FrameType(b[3]), http2.Flags(b[4]), binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1), b[9:n]}, nil
}

// usual does what every end does with frames that concern the connection.
func (c *flatConn) usual(f *flatFrame) error {
	if c.look != nil {
		if err := c.look(*f); err != nil {
			return err
		}
	}
	switch {
	case f.typ == http2.FrameSettings && !f.flags.Has(http2.FlagSettingsAck):
		c.out = appendFlat(c.out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	case f.typ == http2.FramePing && !f.flags.Has(http2.FlagPingAck):
		c.out = appendFlat(c.out, http2.FramePing, http2.FlagPingAck, 0, f.payload)
	case f.typ == http2.FrameWindowUpdate && f.stream == 0:
		c.window += int64(binary.BigEndian.Uint32(f.payload))
	case f.typ == http2.FrameGoAway:
		return fmt.Errorf("%w: %v %s", errFlatGoAway, http2.ErrCode(binary.BigEndian.Uint32(f.payload[4:])), f.payload[8:])
	}
	return nil
}

// turn writes what there is to be written, unless there is still something to be handled, and handles one frame.
func (c *flatConn) turn() (f flatFrame, err error) {
	if !c.parsed() {
		if err := c.flush(); err != nil {
			return f, err
		}
	}
	if f, err = c.next(); err == nil {
		err = c.usual(&f)
	}
	return f, err
}

// flush writes what was appended to out.
func (c *flatConn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

func appendFlat(dst []byte, typ http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), byte(typ), byte(flags))
	dst = binary.BigEndian.AppendUint32(dst, stream)
	return append(dst, payload...)
}

// appendFlatCredit appends a WINDOW_UPDATE.
func appendFlatCredit(dst []byte, stream, n uint32) []byte {
	return appendFlat(dst, http2.FrameWindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, n))
}

// flatMuchCredit opens a connection's window as far as it goes, so that no more credit is needed for two gigabytes.
const flatMuchCredit = 1<<31 - 1 - 65535

// flatBlocks are a connection's header blocks: the first ones put fields into the table, the others refer to them.
type flatBlocks struct{ first, rest []byte }

// flatEncode gives the blocks of several field lists that are sent in turn.
func flatEncode(lists ...[]hpack.HeaderField) []flatBlocks {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	all := make([]flatBlocks, len(lists))
	for round := range 2 {
		for i, fields := range lists {
			b.Reset()
			for _, f := range fields {
				_ = enc.WriteField(f)
			}
			if round == 0 {
				all[i].first = bytes.Clone(b.Bytes())
			} else {
				all[i].rest = bytes.Clone(b.Bytes())
			}
		}
	}
	return all
}

// flatFields makes fields of name, value, name, value…
func flatFields(pairs ...string) (fields []hpack.HeaderField) {
	for i := 0; i+1 < len(pairs); i += 2 {
		fields = append(fields, hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return fields
}

// flatMessage is a gRPC message of 100 octets.
var flatMessage = append([]byte{0, 0, 0, 0, 100}, bytes.Repeat([]byte("m"), 100)...)

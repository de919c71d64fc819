package relay

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// input is what was read from a connection and not yet parsed. It belongs to the connection's reader.
//
// A read gets the largest of the shared buffers: a frame is never larger than the SETTINGS_MAX_FRAME_SIZE that we leave at its default, so
// several fit. While there is nothing to read, no buffer is held, or, behind a part of a frame, one that is not much larger than that, and
// no larger than a whole frame.
type input struct {
	nc  net.Conn
	raw syscall.RawConn // nil where nc is no socket, or its bytes are not those of the socket (TLS)
	// try is readable as a value, made once.
	try func(fd uintptr) bool

	buf        []byte
	start, end int
	n          int
	err        error
	// filled says that the last read that may wait left no room: there is likely to be more.
	filled bool
}

func (in *input) init(nc net.Conn, raw syscall.RawConn) {
	in.nc, in.raw, in.try = nc, raw, in.readable
}

// unparsed is what is there.
func (in *input) unparsed() []byte { return in.buf[in.start:in.end] }

// taken takes n octets off the front.
func (in *input) taken(n int) { in.start += n }

// more waits for more octets. What is unparsed moves to the front of the buffer.
func (in *input) more() error {
	if in.start > 0 {
		in.end = copy(in.buf, in.buf[in.start:in.end])
		in.start = 0
	}
	if in.raw == nil {
		return in.wait()
	}
	if err := in.raw.Read(in.try); err != nil {
		return err
	}
	in.end += in.n
	if in.n == 0 && in.err == nil {
		return io.EOF
	}
	return in.err
}

// readable is called when there may be something to read.
func (in *input) readable(fd uintptr) bool {
	in.resize(largeBuffer)
	in.n, in.err = readNow(fd, in.buf[in.end:])
	if in.err == unix.EAGAIN {
		in.resize(in.end)
		return false
	}
	return true
}

// wait reads where only the read itself tells that there is something: meanwhile a buffer is held, which is small unless the last one was
// filled.
func (in *input) wait() error {
	size := min(in.end+smallBuffer, mediumBuffer)
	if in.filled {
		size = largeBuffer
	}
	in.resize(size)
	n, err := in.nc.Read(in.buf[in.end:])
	in.end += n
	in.filled = in.end == len(in.buf)
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// resize has the buffer be the smallest that holds n octets, or none for none, with what there is at its front.
func (in *input) resize(n int) {
	if n == 0 {
		releaseBuffer(in.buf)
		in.buf = nil
		return
	}
	if len(in.buf) == bufferFor(n) {
		return
	}
	b := acquireBuffer(n)
	b = b[:cap(b)]
	copy(b, in.buf[:in.end])
	releaseBuffer(in.buf)
	in.buf = b
}

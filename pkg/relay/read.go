package relay

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// readBufferSize is how much one read brings at most. A frame is never larger than the SETTINGS_MAX_FRAME_SIZE that we leave at its
// default, so several fit.
const readBufferSize = largeBuffer

// input is what was read from a connection and not yet parsed. It belongs to the connection's reader.
type input struct {
	nc  net.Conn
	raw syscall.RawConn // nil where nc is no socket, or its bytes are not those of the socket (TLS)
	// try is readable as a value, made once.
	try func(fd uintptr) bool

	buf        *[readBufferSize]byte
	start, end int
	n          int
	err        error
}

func (in *input) init(nc net.Conn, raw syscall.RawConn) {
	in.nc, in.raw, in.try = nc, raw, in.readable
}

// unparsed is what is there.
func (in *input) unparsed() []byte {
	if in.buf == nil {
		return nil
	}
	return in.buf[in.start:in.end]
}

// taken takes n octets off the front.
func (in *input) taken(n int) { in.start += n }

// more waits for more octets. What is unparsed moves to the front of the buffer.
func (in *input) more() error {
	if in.start > 0 {
		in.end = copy(in.buf[:], in.buf[in.start:in.end])
		in.start = 0
	}
	if in.raw == nil {
		in.acquire()
		n, err := in.nc.Read(in.buf[in.end:])
		in.end += n
		if n > 0 {
			return nil // an error comes again
		}
		return err
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

// readable is called when there may be something to read. While there is not, an empty buffer goes back to the others.
func (in *input) readable(fd uintptr) bool {
	in.acquire()
	in.n, in.err = readNow(fd, in.buf[in.end:])
	if in.err == unix.EAGAIN {
		in.release()
		return false
	}
	return true
}

func (in *input) acquire() {
	if in.buf == nil {
		in.buf = largeBuffers.Get().(*[readBufferSize]byte)
	}
}

// release gives an empty buffer back.
func (in *input) release() {
	if in.buf != nil && in.start == in.end {
		largeBuffers.Put(in.buf)
		in.buf, in.start, in.end = nil, 0, 0
	}
}

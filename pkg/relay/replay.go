package relay

import (
	"sync"
	"unsafe"

	"github.com/flyproxy/flyproxy/pkg/relay/hpack"
)

// replayLimit bounds what is kept of a call's DATA, once it was sent, for the case that its peer goes away without having processed
// it. A call that has sent more is not replayed.
const replayLimit = largeBuffer

// replay is what is kept of a request until its response begins: all of it while the call waits for a connection, and after that as
// long as it stays within bounds. It is guarded by stream.mu.
type replay struct {
	fields []hpack.Field
	// large is what fields take, where that is more than usual and so was counted.
	large int
	data  []byte
	// free is how much of data the client has credit for already: what is kept needs no room elsewhere, so it is returned at once.
	free int
	end  bool // the client has ended its side
	lost bool // some is no longer there: the call cannot be begun again
}

// keep keeps p, if there is room; must says that the call waits, so that without it the call is lost. It gives how many octets the
// client may be given credit for.
func (r *replay) keep(e *Engine, c *conn, p []byte, end, must bool) (credit int, ok bool) {
	r.end = r.end || end
	if r.lost || len(p) == 0 {
		return 0, !r.lost
	}
	full := e.replay.Load()+c.kept+int64(len(p)) > e.cfg.Limits.ReplayBytes
	if full {
		e.hit(limitReplay)
	}
	if full || !must && len(r.data)+len(p) > replayLimit {
		r.dropData(e, c)
		r.lost = true
		return 0, false
	}
	if old := r.data; len(old)+len(p) > cap(old) && len(old)+len(p) <= largeBuffer {
		r.data = append(acquireBuffer(len(old)+len(p)), old...)
		releaseBuffer(old)
	}
	r.data = append(r.data, p...)
	c.kept += int64(len(p))
	if len(r.data) <= replayLimit {
		credit = len(p)
		r.free = len(r.data)
	}
	return credit, true
}

// usualFields is how much the fields of a call may take without being counted: more than those of most do. The bound on the number of
// calls bounds the sum.
const usualFields = 2 << 10

// fieldOverhead is what a field takes besides its strings.
const fieldOverhead = int(unsafe.Sizeof(hpack.Field{}))

// countFields counts large fields, if there is room for them.
func (r *replay) countFields(e *Engine, c *conn, size int) bool {
	if size <= usualFields {
		return true
	}
	if e.replay.Load()+c.kept+int64(size) > e.cfg.Limits.ReplayBytes {
		e.hit(limitReplay)
		return false
	}
	r.large = size
	c.kept += int64(size)
	return true
}

// forgetFields has large fields for which there is no room forgotten, once they were sent. A call that still waits ends. It runs on the
// reader of c.
func (s *stream) forgetFields(c *conn) {
	s.mu.Lock()
	waits := s.up == nil && !s.over
	if s.up != nil && s.request.fields != nil {
		s.request.lost = true
		s.request.drop(s.e, c)
	}
	s.mu.Unlock()
	if waits {
		s.overflow(c)
	}
}

// sent is called when all that is kept was sent: what was only kept because the call waited goes.
func (r *replay) sent(e *Engine) {
	if len(r.data) > replayLimit {
		r.dropData(e, nil)
		r.lost = true
	}
}

// drop forgets the request. c is the connection on whose reader it runs, nil elsewhere.
func (r *replay) drop(e *Engine, c *conn) {
	r.dropData(e, c)
	if r.fields != nil {
		uncount(e, c, r.large)
		releaseFields(r.fields)
		r.fields, r.large = nil, 0
	}
}

func (r *replay) dropData(e *Engine, c *conn) {
	if r.data == nil {
		return
	}
	uncount(e, c, len(r.data))
	releaseBuffer(r.data)
	r.data, r.free = nil, 0
}

// uncount takes n octets off what is kept.
func uncount(e *Engine, c *conn, n int) {
	switch {
	case n == 0:
	case c != nil:
		c.kept -= int64(n)
	default:
		e.replay.Add(-int64(n))
	}
}

// fieldCount is how many fields the shared slices have room for: more than most requests have.
const fieldCount = 24

var fieldSlices = sync.Pool{New: func() any { return new([fieldCount]hpack.Field) }}

func acquireFields(n int) []hpack.Field {
	if n > fieldCount {
		return make([]hpack.Field, 0, n)
	}
	return fieldSlices.Get().(*[fieldCount]hpack.Field)[:0]
}

func releaseFields(fields []hpack.Field) {
	if cap(fields) != fieldCount {
		return
	}
	all := (*[fieldCount]hpack.Field)(fields[:fieldCount])
	clear(all[:len(fields)]) // or the strings would live on
	fieldSlices.Put(all)
}

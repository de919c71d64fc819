package relay

import "sync"

// Buffers are shared by all connections: one is held only while there is something in it, so what is idle costs none. Their sizes are
// such that a message of the usual kind, which is kept while its call is unanswered, takes little, and that what the limits count in
// octets takes no more than a few times as much. The medium one holds a whole frame: behind a part of one, no more is ever held.
const (
	tinyBuffer   = 512
	smallBuffer  = 4 << 10
	mediumBuffer = frameHeaderLen + minMaxFrameSize
	largeBuffer  = 64 << 10
	bufferGrowth = 4 // from one size to the next, at least
)

var (
	tinyBuffers   = sync.Pool{New: func() any { return new([tinyBuffer]byte) }}
	smallBuffers  = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	mediumBuffers = sync.Pool{New: func() any { return new([mediumBuffer]byte) }}
	largeBuffers  = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// bufferFor is the size of the buffer for n octets, or of the largest.
func bufferFor(n int) int {
	switch {
	case n <= tinyBuffer:
		return tinyBuffer
	case n <= smallBuffer:
		return smallBuffer
	case n <= mediumBuffer:
		return mediumBuffer
	}
	return largeBuffer
}

// acquireBuffer gives an empty buffer for n octets, or for as many as the largest holds.
func acquireBuffer(n int) []byte {
	switch bufferFor(n) {
	case tinyBuffer:
		return tinyBuffers.Get().(*[tinyBuffer]byte)[:0]
	case smallBuffer:
		return smallBuffers.Get().(*[smallBuffer]byte)[:0]
	case mediumBuffer:
		return mediumBuffers.Get().(*[mediumBuffer]byte)[:0]
	}
	return largeBuffers.Get().(*[largeBuffer]byte)[:0]
}

// releaseBuffer takes one back; nobody may use it any more. Other slices it leaves to the garbage collector.
func releaseBuffer(b []byte) {
	switch cap(b) {
	case tinyBuffer:
		tinyBuffers.Put((*[tinyBuffer]byte)(b[:tinyBuffer]))
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case mediumBuffer:
		mediumBuffers.Put((*[mediumBuffer]byte)(b[:mediumBuffer]))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}

// queue is octets in the order in which they came, in shared buffers.
type queue struct {
	chunks [][]byte // what is left of each; the buffer's end is the slice's capacity
	whole  [][]byte // the buffers that chunks are parts of
	n      int
}

// push adds a copy of p at the end.
func (q *queue) push(p []byte) {
	q.n += len(p)
	for len(p) > 0 {
		last := len(q.chunks) - 1
		if last < 0 || len(q.chunks[last]) == cap(q.chunks[last]) {
			want := len(p)
			if last >= 0 {
				want = max(want, bufferGrowth*cap(q.whole[last])) // what has grown once is likely to grow on
			}
			b := acquireBuffer(want)
			q.chunks, q.whole = append(q.chunks, b), append(q.whole, b)
			last++
		}
		c := q.chunks[last]
		n := min(len(p), cap(c)-len(c))
		q.chunks[last] = append(c, p[:n]...)
		p = p[n:]
	}
}

// front is what comes first, in one piece.
func (q *queue) front() []byte { return q.chunks[0] }

// pop takes n octets off the front.
func (q *queue) pop(n int) {
	q.n -= n
	for n > 0 {
		k := min(n, len(q.chunks[0]))
		q.chunks[0] = q.chunks[0][k:]
		n -= k
		if len(q.chunks[0]) == 0 && (len(q.chunks) > 1 || q.n == 0) {
			releaseBuffer(q.whole[0])
			q.chunks[0], q.whole[0] = nil, nil
			q.chunks, q.whole = q.chunks[1:], q.whole[1:]
		}
	}
	if q.n == 0 {
		q.clear()
	}
}

// clear throws everything away.
func (q *queue) clear() {
	for _, b := range q.whole {
		releaseBuffer(b)
	}
	*q = queue{}
}

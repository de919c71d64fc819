package relay_test

import (
	"encoding/binary"
	"math/rand/v2"

	"golang.org/x/net/http2"
)

// What goes to the engine. The run's mu is held in all of this.

// sendSettings sends SETTINGS, which count for what comes once they are acknowledged.
func (e *modelEnd) sendSettings(s []http2.Setting) {
	e.pending = append(e.pending, s)
	for _, x := range s {
		if x.ID == http2.SettingMaxConcurrentStreams {
			e.said = x.Val
		}
	}
	_ = e.framer.WriteSettings(s...)
}

func (e *modelEnd) sendPing() {
	var p [8]byte
	e.sentOf++
	binary.BigEndian.PutUint64(p[:], uint64(e.sentOf))
	e.pings = append(e.pings, p)
	_ = e.framer.WritePing(false, p)
}

// sendNoise sends what means nothing: a frame of an unknown type, and PRIORITY of an idle stream.
func (e *modelEnd) sendNoise() {
	_ = e.framer.WriteRawFrame(0x42, 0xff, 0, []byte("ignored"))
	_ = e.framer.WritePriority(1<<20+1, http2.PriorityParam{StreamDep: 3, Weight: 7})
}

// mostCredit keeps windows well below what would overflow them, whatever SETTINGS are under way.
const mostCredit = 1 << 30

// credit gives credit: to the connection if l is nil.
func (e *modelEnd) credit(l *modelLeg, n int64) {
	window, id := &e.ours.window, uint32(0)
	if l != nil {
		window, id = &l.recvWindow, l.id
	}
	if n = min(n, mostCredit-*window); n <= 0 || n > 1<<31-1 {
		return
	}
	*window += n
	_ = e.framer.WriteWindowUpdate(id, uint32(n))
}

// openWindow gives the leg and its connection room, at the end of a run.
func (e *modelEnd) openWindow(l *modelLeg) {
	const room = 1 << 20
	if e.ours.window < room/2 {
		e.credit(nil, room)
	}
	if e.manner.Opens && len(e.pending) > 0 {
		return // what is under way opens the streams
	}
	if l != nil && !l.closed() && !l.gotEnd && l.recvWindow < room/2 {
		e.credit(l, room-l.recvWindow)
	}
}

// pump sends what windows allow, of every leg in turn.
func (e *modelEnd) pump() {
	for _, l := range e.order {
		for len(l.queue) > 0 && l.alive() && l.next() {
		}
	}
}

// next sends the first item of the queue, or a frame of it. It is false when it has to wait.
func (l *modelLeg) next() bool {
	e, it := l.end, &l.queue[0]
	if it.fields != nil {
		e.sendBlock(l, *it)
		l.queue = l.queue[1:]
		return true
	}
	room := min(int64(e.theirs.maxFrame), e.theirs.window, l.sendWindow)
	n, pad := min(it.size, it.piece, modelPeriod), it.pad
	if int64(n+pad+1) > room {
		pad = 0
	}
	n = min(n, int(max(room, 0)))
	if n == 0 && it.size > 0 {
		return false
	}
	cost := int64(n)
	last := n == it.size
	end := last && it.end
	if pad > 0 {
		cost += int64(pad) + 1
		_ = e.framer.WriteDataPadded(l.id, end, l.call.pattern(e.client, l.sent, n), make([]byte, pad))
	} else {
		_ = e.framer.WriteData(l.id, end, l.call.pattern(e.client, l.sent, n))
	}
	e.theirs.window -= cost
	l.sendWindow -= cost
	l.sent += n
	it.size -= n
	if end {
		l.sentEnd = true
	}
	if last {
		l.queue = l.queue[1:]
	}
	return true
}

// sendBlock sends a header block in several frames.
func (e *modelEnd) sendBlock(l *modelLeg, it modelItem) {
	e.block.Reset()
	for _, f := range it.fields {
		_ = e.enc.WriteField(f)
	}
	block := e.block.Bytes()
	most := min(int(e.theirs.maxFrame)-it.style.Pad-10, max(1, len(block)/max(1, it.style.Pieces)+1))
	n := min(most, len(block))
	p := http2.HeadersFrameParam{StreamID: l.id, EndStream: it.end, EndHeaders: n == len(block), BlockFragment: block[:n],
		PadLength: uint8(it.style.Pad)}
	if it.style.Priority {
		p.Priority = http2.PriorityParam{StreamDep: l.id + 2, Weight: 9}
	}
	_ = e.framer.WriteHeaders(p)
	for rest := block[n:]; len(rest) > 0; rest = rest[n:] {
		n = min(most, len(rest))
		_ = e.framer.WriteContinuation(l.id, n == len(rest), rest[:n])
	}
	l.sentBlocks = append(l.sentBlocks, modelBlock{it.fields, it.end})
	l.sentEnd = l.sentEnd || it.end
}

// sendReset resets a leg at once, before what waits.
func (l *modelLeg) sendReset(code http2.ErrCode) {
	l.queue = nil
	l.endFirst = l.sentEnd
	l.sentReset = &code
	_ = l.end.framer.WriteRSTStream(l.id, code)
}

// modelPeriod is after how many octets the content of DATA repeats itself; a prime, so that no frame size hides a shift.
const modelPeriod = 65521

// modelNoise is what DATA is cut from, so that octets that are lost, doubled or swapped show.
var modelNoise = func() []byte {
	b := make([]byte, modelPeriod)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return append(b, b...)
}()

// pattern gives n octets of what a side of the call sends, from a place on; n is at most modelPeriod.
func (c *modelCall) pattern(byClient bool, at, n int) []byte {
	from := at + 101*c.number
	if byClient {
		from += 31_000
	}
	from %= modelPeriod
	return modelNoise[from : from+n]
}

package relay_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// modelEnd is one end of a connection to the engine: a client's or a peer's. A goroutine reads it, another writes what is in out, so
// nothing that a step does ever waits for the engine. All fields below nc are guarded by the run's mu.
type modelEnd struct {
	run    *modelRun
	name   string
	manner modelManner
	client bool
	nc     net.Conn

	out     bytes.Buffer
	framer  *http2.Framer // writes to out
	block   bytes.Buffer
	enc     *hpack.Encoder // writes to block
	dec     *hpack.Decoder
	paused  bool // does not read
	over    bool // nothing is read any more
	dies    bool // we have closed it, or said that we will: its end is no fault
	leaving bool // a peer's connection that has sent GOAWAY
	lastOK  uint32

	ours   modelLedger // what we let the engine send
	theirs modelLedger // what it lets us send
	// pending are our SETTINGS that were not acknowledged; pings our PINGs.
	pending [][]http2.Setting
	pings   [][8]byte
	sentOf  byte   // numbers the PINGs
	said    uint32 // the stream limit that was sent last

	legs   map[uint32]*modelLeg
	order  []*modelLeg // by id
	nextID uint32      // of a client's streams
	lastID uint32      // of the engine's streams
}

// modelLedger is what one side lets the other do.
type modelLedger struct {
	window, initial int64
	most            int64 // the largest the connection's window was
	maxFrame        uint32
	maxStreams      uint32
	greeted         bool
}

// modelLeg is one stream on one connection.
type modelLeg struct {
	call *modelCall
	end  *modelEnd
	id   uint32

	sendWindow, recvWindow int64
	queue                  []modelItem // what waits for windows and for what stands before it
	sent, got              int         // octets of DATA
	sentBlocks             []modelBlock
	gotBlocks              int
	sentEnd, gotEnd        bool
	sentReset, gotReset    *http2.ErrCode
	// endFirst says that END_STREAM was sent before the reset.
	endFirst bool
	// ignored is a stream above the last id of our GOAWAY: we say nothing to it.
	ignored bool
}

// modelItem is something to be sent in its turn: a block if fields is not nil, else DATA.
type modelItem struct {
	fields     []hpack.HeaderField
	size       int
	piece, pad int
	end        bool
	style      modelStyle
}

type modelBlock struct {
	fields []hpack.HeaderField
	end    bool
}

func newModelEnd(r *modelRun, name string, nc net.Conn, m modelManner, client bool) *modelEnd {
	e := &modelEnd{run: r, name: name, manner: m, client: client, nc: nc, legs: make(map[uint32]*modelLeg), nextID: 1, said: 1<<32 - 1}
	e.framer = http2.NewFramer(&modelTap{end: e}, nil)
	e.enc = hpack.NewEncoder(&e.block)
	e.dec = hpack.NewDecoder(4096, nil)
	for _, l := range []*modelLedger{&e.ours, &e.theirs} {
		*l = modelLedger{window: 65535, initial: 65535, most: 65535, maxFrame: 16384, maxStreams: 1<<32 - 1}
	}
	return e
}

// start says hello and starts the goroutines. The caller holds mu.
func (e *modelEnd) start() {
	if e.client {
		e.out.WriteString(http2.ClientPreface)
	}
	e.sendSettings(e.manner.Settings)
	if e.run.ending {
		e.relax()
	}
	e.run.tasks.Go(e.readAll)
	e.run.tasks.Go(e.writeAll)
}

// Read reads the connection unless reading is paused.
func (e *modelEnd) Read(p []byte) (int, error) {
	e.run.mu.Lock()
	for e.paused && !e.dies {
		e.run.changed.Wait()
	}
	e.run.mu.Unlock()
	return e.nc.Read(p)
}

func (e *modelEnd) readAll() {
	if !e.client {
		if _, err := io.ReadFull(e.nc, make([]byte, len(http2.ClientPreface))); err != nil {
			e.finish(err)
			return
		}
	}
	f := http2.NewFramer(io.Discard, bufio.NewReaderSize(e, 8<<10))
	f.SetMaxReadFrameSize(1<<24 - 1)
	var head http2.FrameHeader
	var fragments []byte
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			e.finish(err)
			return
		}
		e.run.mu.Lock()
		for e.paused && !e.dies {
			e.run.changed.Wait() // a Read that waited already when reading was to stop has brought this
		}
		if !e.dies {
			switch fr := fr.(type) {
			case *http2.HeadersFrame:
				head, fragments = fr.FrameHeader, append(fragments[:0], fr.HeaderBlockFragment()...)
				if e.checkFrame(fr); fr.HeadersEnded() {
					e.headers(head, fragments)
				}
			case *http2.ContinuationFrame:
				fragments = append(fragments, fr.HeaderBlockFragment()...)
				if e.checkFrame(fr); fr.HeadersEnded() {
					e.headers(head, fragments)
				}
			default:
				e.checkFrame(fr)
				e.take(fr)
			}
			e.pump()
		}
		e.run.changed.Broadcast()
		e.run.mu.Unlock()
	}
}

// finish notes that nothing more can be read.
func (e *modelEnd) finish(err error) {
	r := e.run
	r.mu.Lock()
	defer r.mu.Unlock()
	e.over = true
	if !e.dies && !r.closing && !e.leaving {
		r.breaks("the connection of %s ends: %v", e.name, err)
	}
	r.changed.Broadcast()
}

func (e *modelEnd) writeAll() {
	r := e.run
	for {
		r.mu.Lock()
		for e.out.Len() == 0 && !e.over && !e.dies {
			r.changed.Wait()
		}
		if e.over || e.dies {
			r.mu.Unlock()
			return
		}
		buf := bytes.Clone(e.out.Bytes())
		e.out.Reset()
		r.mu.Unlock()
		// Small writes only for the first octets: they are to cut frames anywhere, not to take seconds.
		for cut := e.manner.Cut; cut > 0 && len(buf) > 0 && len(buf) < 2000; {
			n := min(cut, len(buf))
			if _, err := e.nc.Write(buf[:n]); err != nil {
				return
			}
			buf = buf[n:]
		}
		if _, err := e.nc.Write(buf); err != nil {
			return
		}
	}
}

// die closes the connection. The caller holds mu.
func (e *modelEnd) die() {
	e.dies = true
	_ = e.nc.Close()
	e.run.changed.Broadcast()
}

// breaks notes the first rule that was broken. The caller holds mu.
func (r *modelRun) breaks(format string, args ...any) {
	if r.fault == "" {
		r.fault = fmt.Sprintf(format, args...)
		r.changed.Broadcast()
	}
}

// leg begins a stream. The caller holds mu.
func (e *modelEnd) leg(c *modelCall, id uint32) *modelLeg {
	l := &modelLeg{call: c, end: e, id: id, sendWindow: e.theirs.initial, recvWindow: e.ours.initial}
	e.legs[id] = l
	e.order = append(e.order, l)
	return l
}

// closed tells whether nothing more may be sent on the leg, and nothing need come.
func (l *modelLeg) closed() bool {
	return l.sentReset != nil || l.gotReset != nil || l.sentEnd && l.gotEnd || l.ignored
}

// alive tells whether frames may still pass.
func (l *modelLeg) alive() bool { return !l.closed() && !l.end.over && !l.end.dies }

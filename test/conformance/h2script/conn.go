package h2script

import (
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Credit says which WINDOW_UPDATEs a connection sends by itself, as soon as DATA has come.
type Credit uint8

// The kinds of automatic credit.
const (
	CreditNone       Credit = iota // the script gives all credit
	CreditConnection               // the connection's window is kept open, streams' are not
	CreditAll
)

// Options say how a connection behaves. The zero value acknowledges SETTINGS, answers PINGs and gives no credit.
type Options struct {
	// Name is what failures call this end.
	Name string
	// Settings are sent first.
	Settings []http2.Setting
	Credit   Credit
	// NoRead never reads, so the other side's writes pile up in the sockets' buffers.
	NoRead bool
	// NoSettings sends nothing at first. A client does not send its preface either.
	NoSettings bool
	// Greeting, of a server, is written at once in the place of SETTINGS, and nothing else is.
	Greeting []byte
	// Answer, of a server, is called by the reader with every request, in place of handing it to the script. It must not wait.
	Answer func(*Stream)
}

// Conn is one connection. A script's goroutine uses it; its methods may be called concurrently where they say so.
type Conn struct {
	Name string

	t    T
	nc   net.Conn
	opts Options
	// requests is where a server's new streams go; nil for a client.
	requests *Requests
	// read is closed once the reader has ended.
	read chan struct{}

	// writing guards framer and the order of frames. It may be held while mu is taken, never the other way round.
	writing sync.Mutex
	framer  *http2.Framer

	// mu guards the fields below.
	mu      sync.Mutex
	changed chan struct{} // closed and replaced with every change
	events  []Event
	closed  bool
	flow    flow
	// nextID is the next stream of a client; lastID the newest of a server's.
	nextID, lastID uint32
	// open are the streams that count against a stream limit, and how many halves each still has; peak is the most there were.
	open map[uint32]int
	peak int
}

func newConn(t T, nc net.Conn, o Options) *Conn {
	c := &Conn{
		Name: o.Name, t: t, nc: nc, opts: o, read: make(chan struct{}), framer: http2.NewFramer(nc, nil), changed: make(chan struct{}),
		nextID: 1, open: make(map[uint32]int), flow: newFlow(),
	}
	c.framer.AllowIllegalWrites = true
	return c
}

// Dial opens a client connection to address, with preface and SETTINGS, and awaits the server's SETTINGS (unless NoRead or NoSettings).
func Dial(t T, address string, o Options) *Conn {
	t.Helper()
	if o.Name == "" {
		o.Name = "client"
	}
	nc, err := net.DialTimeout("tcp", address, Patience)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	c := newConn(t, nc, o)
	t.Cleanup(c.Close)
	if !o.NoSettings {
		c.Raw([]byte(http2.ClientPreface))
		c.SendSettings(o.Settings...)
	}
	if o.NoRead {
		close(c.read)
		return c
	}
	go c.readAll()
	if !o.NoSettings {
		c.Await("SETTINGS", func(e *Event) bool { return e.Type == http2.FrameSettings && !e.Ack() })
	}
	return c
}

// Close closes the connection and awaits its reader. It may be called twice.
func (c *Conn) Close() {
	c.nc.Close()
	<-c.read
}

// CloseHard closes the connection with a TCP RST.
func (c *Conn) CloseHard() {
	_ = c.nc.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// Open opens a call with these headers.
func (c *Conn) Open(fields []Field) *Stream { return c.call(false, fields) }

// OpenEnded opens a call that is half-closed with its headers.
func (c *Conn) OpenEnded(fields []Field) *Stream { return c.call(true, fields) }

func (c *Conn) call(end bool, fields []Field) *Stream {
	s := c.NewStream()
	s.SendHeaders(end, fields...)
	return s
}

// NewStream takes the next stream id of a client without sending anything.
func (c *Conn) NewStream() *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &Stream{ID: c.nextID, Conn: c, next: len(c.events)}
	c.nextID += 2
	return s
}

// OpenStreams is how many streams are open.
func (c *Conn) OpenStreams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// Peak is the largest number of streams that were open at a time.
func (c *Conn) Peak() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peak
}

// Events gives what was recorded until now.
func (c *Conn) Events() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events[:len(c.events):len(c.events)]
}

// Await waits for the first event on the connection, of the recorded ones too, for which is holds. The end of the connection fails.
func (c *Conn) Await(what string, is func(*Event) bool) Event {
	c.t.Helper()
	next := 0
	e, ok := c.await(&next, Patience, is)
	if !ok {
		if ev := c.Events(); len(ev) > 0 && ev[len(ev)-1].Closed {
			c.t.Fatalf("the %s gets %s instead of %s", c.Name, &ev[len(ev)-1], what)
		}
		c.t.Fatalf("the %s gets no %s", c.Name, what)
	}
	return e
}

// Ended waits until the connection is over, and gives its last event. ok is false when it still lives after that time.
func (c *Conn) Ended(within time.Duration) (e Event, ok bool) {
	next := 0
	return c.await(&next, within, func(e *Event) bool { return e.Closed })
}

// await gives the first event from next on for which is holds and moves next behind it.
func (c *Conn) await(next *int, patience time.Duration, is func(*Event) bool) (Event, bool) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		c.mu.Lock()
		for ; *next < len(c.events); *next++ {
			if is(&c.events[*next]) {
				e := c.events[*next]
				*next++
				c.mu.Unlock()
				return e, true
			}
		}
		changed, closed := c.changed, c.closed
		c.mu.Unlock()
		if closed {
			return Event{}, false
		}
		select {
		case <-changed:
		case <-timer.C:
			return Event{}, false
		}
	}
}

// changedLocked wakes whoever waits. The caller holds mu.
func (c *Conn) changedLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// halfLocked notes that one half of a stream, or with both all of it, is closed. The caller holds mu.
func (c *Conn) halfLocked(id uint32, both bool) {
	if n, ok := c.open[id]; ok {
		if n--; n == 0 || both {
			delete(c.open, id)
		} else {
			c.open[id] = n
		}
	}
}

// openLocked notes a new stream. The caller holds mu.
func (c *Conn) openLocked(id uint32) {
	c.open[id] = 2
	c.peak = max(c.peak, len(c.open))
	c.flow.open(id)
}

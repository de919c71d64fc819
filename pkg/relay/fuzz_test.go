package relay_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// The fuzz targets let one side of the engine do anything at all, on connections of their own, while a witness makes calls on another
// one: whatever comes must leave it, and the engine, as they were. [fuzzBed.rests] says what that means.
//
// The first octet of an input says how the rest is used ([fuzzManner]): as octets that are written as they are, or as a script of
// frames ([fuzzScript]), of which most are nearly right. Those come further than noise does.

// fuzzManner is how an input is used.
type fuzzManner byte

const (
	fuzzNoise     fuzzManner = iota // octets in place of the preface
	fuzzGreeted                     // octets behind preface and SETTINGS
	fuzzScripted                    // frames behind preface and SETTINGS
	fuzzAfterCall                   // upstream: octets once a call has come
	fuzzOnCall                      // upstream: frames once a call has come
	fuzzManners
)

// seedFuzz adds inputs of every manner: calls as they should be, and what has hurt proxies before.
func seedFuzz(f *testing.F) {
	call := "\x00\x00\x00\x00\x05\x00\x01\x20" // HEADERS; DATA of 32 octets with END_STREAM
	for _, body := range []string{
		"",
		"GET / HTTP/1.1\r\n\r\n",
		strings.Repeat(call, 20),
		call + "\xee\x08\x00\x08" + "\xee" + call,                  // RST_STREAM, and go on
		strings.Repeat("\x00\x00\x00\x08\x00\x08", 100),            // rapid reset
		"\x00\x00\x00\x05\x00\x00\xff\x0f\xff",                     // DATA without end
		"\x0d\x06\x00\xc0\x08pingpong\x0f\xff\x0f\xff",             // PINGs without end
		"\x09\x00\x04\x00\x0f\xff" + call,                          // SETTINGS without end, window 0
		"\x09\x01\x04\x08\x04\x09\x0a\x00\x08" + call,              // windows that overflow
		"\x0a\xc0\x08\x0a\xc0\x08" + call,                          // by WINDOW_UPDATE
		"\x0c\x00\x00" + call + "\x0c\xc0\x00",                     // GOAWAY
		"\x00\x00\x01\x00\x01\x00\x02\x00\x05\x00\x01\x01",         // response, trailers
		"\x02\x00\x00\x00\x00\x00\x07\xff\x02\x00\x04\x00\x07\xff", // long headers
		"\x03\x00\x01\x03\x82\x86\x84\x0f\xff",                     // header blocks cut off
		"\x04\x00\x01\x00",                                         // CONTINUATION alone
		"\x00\x00\x00\x00" + "\x05\x00\x08\x10\xff",                // padding longer than its frame
	} {
		for m := range fuzzManners {
			f.Add([]byte(string(rune(m)) + body))
			f.Add([]byte(string(rune(m+5*7)) + body)) // three calls at once
		}
	}
}

// mostFuzzInput keeps a single input from taking long.
const mostFuzzInput = 16 << 10

// FuzzDownstream plays a client.
func FuzzDownstream(f *testing.F) {
	seedFuzz(f)
	bed := newFuzzBed(f)
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 || len(input) > mostFuzzInput {
			return
		}
		bed.begin(t)
		nc, err := net.Dial("tcp", bed.address)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(flatPatience))
		c := &fuzzEnd{flatConn: newFlatConn(nc)}
		manner := fuzzManner(input[0]) % fuzzManners
		if manner != fuzzNoise {
			c.out = appendFlat(append(c.out, http2.ClientPreface...), http2.FrameSettings, 0, 0, nil)
		}
		c.play(manner == fuzzScripted || manner == fuzzOnCall, input[1:], true)
		c.end()
		if c.fault != nil {
			t.Fatal(c.fault)
		}
		bed.rests(t)
	})
}

// FuzzUpstream plays a peer to which the witness makes calls, each of which must end.
func FuzzUpstream(f *testing.F) {
	seedFuzz(f)
	bed := newFuzzBed(f)
	peer := startFuzzPeer(f)
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 || len(input) > mostFuzzInput {
			return
		}
		bed.begin(t)
		peer.play(input)
		bed.join(peer.entry())
		if err := bed.witness.fuzzCalls(1 + int(input[0]>>4)%4); err != nil {
			t.Fatalf("calls to a peer that does what it wants: %v", err)
		}
		if why := peer.stop(); why != nil {
			t.Fatalf("what the engine sends to a peer: %v", why)
		}
		bed.rests(t)
	})
}

// fuzzEnd is the end of a connection that does what an input says.
type fuzzEnd struct {
	*flatConn
	greeted bool
	block   uint32 // the stream whose header block is under way
	fault   error  // what the engine did wrong
	over    bool   // nothing more can be read
	pinged  byte
}

var (
	errFuzzGreeting = errors.New("the engine's first frame is not SETTINGS")
	errFuzzBlock    = errors.New("a header block is interrupted")
	errFuzzLength   = errors.New("a frame of a wrong length came")
)

// play writes an input. Errors of writing are no faults: the engine may have closed the connection.
func (c *fuzzEnd) play(script bool, input []byte, client bool) {
	if !script {
		c.out = append(c.out, input...)
		_ = c.flush()
		return
	}
	s := fuzzScript{in: input, client: client, next: 1}
	for s.more() {
		var await bool
		if c.out, await = s.frame(c.out); await || len(c.out) > 64<<10 {
			c.sync()
		}
		if c.over {
			return
		}
	}
	c.sync()
}

// sync awaits that the engine has read everything, unless it has closed the connection.
func (c *fuzzEnd) sync() {
	c.pinged++
	c.out = appendFlat(c.out, http2.FramePing, 0, 0, []byte{'f', 'u', 'z', 'z', 0, 0, 0, c.pinged})
	_ = c.flush()
	for !c.over {
		if f, ok := c.read(); ok && f.typ == http2.FramePing && f.flags.Has(http2.FlagPingAck) && f.payload[7] == c.pinged {
			return
		}
	}
}

// end ends our side and reads what still comes.
func (c *fuzzEnd) end() {
	_ = c.flush()
	_ = c.nc.(*net.TCPConn).CloseWrite()
	for !c.over {
		c.read()
	}
}

// read takes a frame and checks its form: whatever we do, the engine's own frames are right.
func (c *fuzzEnd) read() (f flatFrame, ok bool) {
	f, err := c.next()
	if err != nil {
		c.over = true
		if c.fault == nil && !flatEnd(err) && !c.isHTTP1() {
			c.fault = err
		}
		return f, false
	}
	if c.isHTTP1() {
		c.over = true
		return f, false
	}
	if err := c.check(&f); err != nil && c.fault == nil {
		c.fault, c.over = err, true
	}
	return f, true
}

// isHTTP1 tells whether the engine takes us for an HTTP/1 client and says so.
func (c *fuzzEnd) isHTTP1() bool { return !c.greeted && c.w >= 5 && string(c.buf[:5]) == "HTTP/" }

func (c *fuzzEnd) check(f *flatFrame) error {
	if !c.greeted && (f.typ != http2.FrameSettings || f.flags.Has(http2.FlagSettingsAck)) {
		return errFuzzGreeting
	}
	c.greeted = true
	if c.block != 0 && (f.typ != http2.FrameContinuation || f.stream != c.block) || c.block == 0 && f.typ == http2.FrameContinuation {
		return errFuzzBlock
	}
	if f.typ == http2.FrameHeaders || f.typ == http2.FrameContinuation {
		c.block = f.stream
		if f.flags.Has(http2.FlagHeadersEndHeaders) {
			c.block = 0
		}
	}
	n, want := len(f.payload), -1
	switch f.typ {
	case http2.FramePing:
		want = 8
	case http2.FrameRSTStream, http2.FrameWindowUpdate:
		want = 4
	}
	if want >= 0 && n != want || f.typ == http2.FrameSettings && n%6 != 0 {
		return errFuzzLength
	}
	return nil
}

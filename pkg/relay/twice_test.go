package relay

import (
	"context"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// finConn is a connection whose other side can end its part (FIN) while our writes still wait, as those to a socket that is full do.
type finConn struct {
	net.Conn
	fin  chan struct{}
	came chan []byte
	rest []byte
}

func (c *finConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		select {
		case c.rest = <-c.came:
		case <-c.fin:
			return 0, io.EOF
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// answer is how the peer writes.
func (c *finConn) answer(p []byte) (int, error) {
	c.came <- append([]byte(nil), p...)
	return len(p), nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// What a write that has not returned was given may have reached the peer: a call in it, whose peer ends the connection, may have been run,
// and is not run a second time.
func TestCallWithinAWriteIsNotRunTwice(t *testing.T) {
	enginetest.CheckLeaks(t)
	subject, made := white(Config{})
	second := enginetest.StartRawPeer(t, nil, enginetest.AnswerAll("from the second peer"))
	s := subject.Start(t, enginetest.Setup{})
	const first = "192.0.2.1:1"
	s.Set(enginetest.Instance("a", first))
	e := *made
	ran, fin := make(chan struct{}, 1), make(chan struct{})
	for _, of := range s.Router.Known() {
		e.pool.peers.Store(of, &peer{e: e, of: of, dial: func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			c := &finConn{Conn: ours, fin: fin, came: make(chan []byte, 16)}
			go readOneCall(theirs, c, ran)
			return c, nil
		}})
	}
	c := enginetest.DialRaw(t, s.Address)
	c.Request(1, false)
	enginetest.Must(t, c.Framer.WriteData(1, true, make([]byte, 10000)))
	enginetest.Receive(t, ran)
	enginetest.Eventually(t, "the writer waits", func() bool {
		for _, uc := range e.toPeers() {
			uc.mu.Lock()
			writing := uc.writing
			uc.mu.Unlock()
			if writing {
				return true
			}
		}
		return false
	})
	s.Set(enginetest.Instance("a", first), enginetest.Instance("b", second.Address))
	close(fin)
	if code, why := c.Result(); code != "14" {
		t.Errorf("the call ended with %s %q: another peer has run it too", code, why)
	}
}

// readOneCall reads up to a call's HEADERS, and no further: the DATA behind them is not read, so the write that brings both waits.
func readOneCall(theirs net.Conn, c *finConn, ran chan<- struct{}) {
	_, _ = io.ReadFull(theirs, make([]byte, len(http2.ClientPreface)))
	fr := http2.NewFramer(writerFunc(c.answer), theirs)
	_ = fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		if f.Header().Type == http2.FrameHeaders {
			enginetest.Offer(ran, struct{}{})
			return
		}
	}
}

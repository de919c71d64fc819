package grpcengine_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// rawPair is a scripted peer behind a sidecar, with a scripted client.
func rawPair(t *testing.T, script func(*rawConn)) (*sidecar, *rawConn) {
	t.Helper()
	leakCheck(t)
	raw := startRawPeer(t, nil, script)
	s := startSidecar(t, options{})
	s.set(instance("only", raw.address))
	return s, dialRaw(t, s.address)
}

// tells answers every call, and tells the headers of each.
func tells(got chan<- *http2.MetaHeadersFrame) func(*rawConn) {
	return func(c *rawConn) {
		for h := c.next(); h != nil; h = c.next() {
			got <- h
			c.answer(h.StreamID, "x")
		}
	}
}

// ask makes a call on a scripted client and gives what its peer saw.
func ask(t *testing.T, fields ...string) *http2.MetaHeadersFrame {
	t.Helper()
	got := make(chan *http2.MetaHeadersFrame, 1)
	_, c := rawPair(t, tells(got))
	c.request(1, true, fields...)
	return receive(t, got)
}

func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	return v
}

// result gives the status of the scripted client's call, be it Trailers-Only or not, or the code of its RST_STREAM.
func (c *rawConn) result() (code, message string) {
	for {
		switch f := c.frame().(type) {
		case nil:
			return "connection lost", ""
		case *http2.RSTStreamFrame:
			return f.ErrCode.String(), ""
		case *http2.MetaHeadersFrame:
			if s := field(f, "grpc-status"); len(s) > 0 {
				return s[0], strings.Join(field(f, "grpc-message"), "")
			}
		}
	}
}

// answerOnce answers one call.
func answerOnce(answer func(p *rawConn, stream uint32)) func(*rawConn) {
	return func(p *rawConn) {
		if h := p.next(); h != nil {
			answer(p, h.StreamID)
			p.next()
		}
	}
}

// odd makes a call whose peer answers it so, and gives the result that the client sees.
func odd(t *testing.T, answer func(p *rawConn, stream uint32)) (code, message string) {
	t.Helper()
	_, c := rawPair(t, answerOnce(answer))
	c.request(1, true)
	return c.result()
}

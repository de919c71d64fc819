package grpcengine_test

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// goesAway answers its first call with a GOAWAY that leaves the call out.
func goesAway(c *rawConn) {
	h := c.next()
	if h == nil {
		return
	}
	_ = c.f.WriteGoAway(h.StreamID-1, http2.ErrCodeNo, nil)
	for c.frame() != nil { // until the other side closes
	}
}

func refuses(c *rawConn) {
	for h := c.next(); h != nil; h = c.next() {
		_ = c.f.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
	}
}

// A call that its peer has not processed goes to another peer: the client does not see it, and it does not count as a retry.
func TestUnprocessedCallGoesToAnotherPeer(t *testing.T) {
	for name, script := range map[string]func(*rawConn){"GOAWAY": goesAway, "REFUSED_STREAM": refuses} {
		t.Run(name, func(t *testing.T) {
			leakCheck(t)
			var attempts atomic.Value
			b := startBackend(t, func(b *backend, s grpc.ServerStream) error {
				md, _ := metadata.FromIncomingContext(s.Context())
				attempts.Store(fmt.Sprint(md["grpc-previous-rpc-attempts"]))
				return echo(b, s)
			})
			raw := startRawPeer(t, nil, script)
			s := startSidecar(t, options{})
			s.set(instance("a", raw.address), instance("b", b.address))
			cc := dial(t, s.address)
			for range 20 {
				got, err := unary(testContext(t), cc, "the body is replayed")
				must(t, err)
				if got != "the body is replayed" {
					t.Fatalf("got %q", got)
				}
				if a := attempts.Load(); a != "[]" {
					t.Fatalf("grpc-previous-rpc-attempts is %v", a)
				}
			}
			s.quiet()
		})
	}
}

// Where there is only one peer, it gets the call again, on a new connection.
func TestUnprocessedCallGoesToSamePeerIfAlone(t *testing.T) {
	leakCheck(t)
	raw := startRawPeer(t, nil, func(c *rawConn) {
		if c.n == 0 {
			goesAway(c)
			return
		}
		answerAll("second connection")(c)
	})
	s := startSidecar(t, options{})
	s.set(instance("only", raw.address))
	got, err := unary(testContext(t), dial(t, s.address), "x")
	must(t, err)
	if got != "second connection" {
		t.Errorf("got %q", got)
	}
	s.quiet()
}

func TestCallBelowLastStreamIDOfGoAwayFinishes(t *testing.T) {
	leakCheck(t)
	raw := startRawPeer(t, nil, func(c *rawConn) {
		h := c.next()
		if h == nil {
			return
		}
		_ = c.f.WriteGoAway(h.StreamID, http2.ErrCodeNo, nil)
		c.answer(h.StreamID, "finished")
		for c.frame() != nil {
		}
	})
	s := startSidecar(t, options{})
	s.set(instance("only", raw.address))
	cc := dial(t, s.address)
	for range 5 {
		got, err := unary(testContext(t), cc, "x")
		must(t, err)
		if got != "finished" {
			t.Errorf("got %q", got)
		}
	}
}

// A peer that sends response headers and then refuses: grpc-go may replay that call, and reports headers once for each stream. This
// crashed the process.
func TestRefusedAfterHeadersIsHarmless(t *testing.T) {
	leakCheck(t)
	raw := startRawPeer(t, nil, func(c *rawConn) {
		for h := c.next(); h != nil; h = c.next() {
			c.headers(h.StreamID, false, ":status", "200", "content-type", "application/grpc")
			_ = c.f.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
		}
	})
	b := startBackend(t, echo)
	s := startSidecar(t, options{})
	s.set(instance("a", raw.address), instance("b", b.address))
	cc := dial(t, s.address)
	answered := 0
	for range 400 {
		ctx := metadata.AppendToOutgoingContext(testContext(t), "grpc-accept-encoding", "gzip")
		st, err := cc.NewStream(ctx, bidi, method)
		must(t, err)
		m := message("x")
		for i := 0; i < 50 && err == nil; i++ {
			err = st.SendMsg(&m)
		}
		_ = st.CloseSend()
		for err = nil; err == nil; {
			err = st.RecvMsg(new(message))
		}
		switch {
		case err == io.EOF:
			answered++
		case status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "app/a"):
			t.Fatal(err)
		}
	}
	if answered < 200 {
		t.Errorf("%d of 400 calls were answered, want at least the half that went to the healthy peer", answered)
	}
	s.quiet()
}

// A call that every peer has left unprocessed was lost by none.
func TestUnprocessedCallThatNobodyTakesSaysSo(t *testing.T) {
	leakCheck(t)
	s := startSidecar(t, options{})
	s.set(instance("a", startRawPeer(t, nil, goesAway).address), instance("b", startRawPeer(t, nil, goesAway).address))
	_, err := unary(testContext(t), dial(t, s.address), "x")
	if st := status.Convert(err); st.Code() != codes.Unavailable || !strings.Contains(st.Message(), "did not process the call") ||
		strings.Contains(st.Message(), "lost") {
		t.Errorf("got %v", st)
	}
	s.quiet()
}

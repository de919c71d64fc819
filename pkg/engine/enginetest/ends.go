package enginetest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ends are tests of calls that one side ends before the other is done.
func ends() []one {
	return []one{
		{"CancelReachesPeer", testCancelReachesPeer},
		{"ClientGoneReachesPeer", testClientGoneReachesPeer},
		{"HalfCloseReachesPeer", testHalfCloseReachesPeer},
		{"EarlyErrorWhileClientSends", testEarlyError},
		{"EarlyOKWhileClientSends", testEarlyOK},
		{"EarlyEndIsFollowedByResetWithoutError", testEarlyEndReset},
		{"PeerResetEndsTheCall", testPeerReset},
	}
}

// held is a peer's handler that tells when a call has come and how it ended.
func held() (h Handler, started chan struct{}, ended chan error) {
	started, ended = make(chan struct{}, 1), make(chan error, 1)
	return func(_ *Backend, s grpc.ServerStream) error {
		Offer(started, struct{}{})
		<-s.Context().Done()
		Offer(ended, s.Context().Err())
		return nil
	}, started, ended
}

func testCancelReachesPeer(t *testing.T, e Subject) {
	h, started, ended := held()
	s, _, cc := e.Pair(t, h)
	ctx, cancel := context.WithCancel(Context(t))
	st := Open(t, ctx, cc)
	Receive(t, started)
	cancel()
	if err := Receive(t, ended); err != context.Canceled {
		t.Errorf("the peer's context ended with %v", err)
	}
	if err := st.RecvMsg(new(Message)); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	s.Quiet()
}

func testClientGoneReachesPeer(t *testing.T, e Subject) {
	h, started, ended := held()
	s, _, cc := e.Pair(t, h)
	Open(t, Context(t), cc)
	Receive(t, started)
	cc.Close()
	Receive(t, ended)
	s.Quiet()
}

func testHalfCloseReachesPeer(t *testing.T, e Subject) {
	_, _, cc := e.Pair(t, func(_ *Backend, s grpc.ServerStream) error {
		if err := s.RecvMsg(new(Message)); err != io.EOF {
			return status.Errorf(codes.Internal, "want the half-close, got %v", err)
		}
		m := Message("after")
		return s.SendMsg(&m)
	})
	st := Open(t, Context(t), cc)
	Must(t, st.CloseSend())
	var m Message
	Must(t, st.RecvMsg(&m))
	if string(m) != "after" {
		t.Errorf("got %q", m)
	}
	End(t, st)
}

// sendAll sends until the call has ended, and gives how it did.
func sendAll(t testing.TB, st grpc.ClientStream) error {
	t.Helper()
	m := Message(strings.Repeat("x", 10000))
	var err error
	for err == nil {
		err = st.SendMsg(&m)
	}
	if err != io.EOF {
		t.Fatalf("SendMsg: %v", err)
	}
	return st.RecvMsg(new(Message))
}

func testEarlyError(t *testing.T, e Subject) {
	s, _, cc := e.Pair(t, func(_ *Backend, s grpc.ServerStream) error {
		if err := s.RecvMsg(new(Message)); err != nil {
			return err
		}
		return status.Error(codes.FailedPrecondition, "enough")
	})
	for range 20 {
		if err := sendAll(t, Open(t, Context(t), cc)); status.Code(err) != codes.FailedPrecondition {
			t.Fatalf("got %v", err)
		}
	}
	s.Quiet()
}

func testEarlyOK(t *testing.T, e Subject) {
	s, _, cc := e.Pair(t, func(*Backend, grpc.ServerStream) error { return nil })
	if err := sendAll(t, Open(t, Context(t), cc)); err != io.EOF {
		t.Fatalf("got %v", err)
	}
	s.Quiet()
}

// An early end on the wire: trailers, then RST_STREAM(NO_ERROR), which says that the rest of the request is not wanted (RFC 9113
// §8.1).
func testEarlyEndReset(t *testing.T, e Subject) {
	s, _, _ := e.Pair(t, func(*Backend, grpc.ServerStream) error { return nil })
	c := DialRaw(t, s.Address)
	c.Request(1, false)
	if h := c.Next(); h == nil || !h.StreamEnded() || len(Values(h, "grpc-status")) != 1 {
		t.Fatalf("want Trailers-Only, got %v", h)
	}
	if f, ok := c.Frame().(*http2.RSTStreamFrame); !ok || f.ErrCode != http2.ErrCodeNo {
		t.Errorf("got %v", f)
	}
	s.Quiet()
}

// A peer's RST_STREAM ends the call at once, before and after response headers, and the connections go on. Which status it
// stands for is gRPC's own mapping (PROTOCOL-HTTP2, "Errors").
func testPeerReset(t *testing.T, e Subject) {
	for reset, want := range map[http2.ErrCode]codes.Code{
		http2.ErrCodeCancel: codes.Canceled, http2.ErrCodeEnhanceYourCalm: codes.ResourceExhausted,
		http2.ErrCodeInternal: codes.Internal, http2.ErrCodeInadequateSecurity: codes.PermissionDenied,
	} {
		for _, when := range []string{"before headers", "after headers"} {
			t.Run(reset.String()+" "+when, func(t *testing.T) {
				CheckLeaks(t)
				s, c := e.RawPair(t, func(p *RawConn) {
					h := p.Next()
					if h == nil {
						return
					}
					if when == "after headers" {
						p.Respond(h.StreamID)
					}
					_ = p.Framer.WriteRSTStream(h.StreamID, reset)
					AnswerAll("x")(p)
				})
				result := fmt.Sprint(uint32(want))
				if e.PassesResets {
					result = reset.String()
				}
				c.Request(1, true)
				if code, _ := c.Result(); code != result {
					t.Errorf("the client got %s, want %s", code, result)
				}
				c.Request(3, true)
				if code, _ := c.Result(); code != "0" {
					t.Errorf("the next call: %s", code)
				}
				s.Quiet()
				if i := s.Told.calls()[0]; i.Code != want || i.PeerID != "only" {
					t.Errorf("the observer was told %+v, want the code %v", i.CallInfo, want)
				}
			})
		}
	}
}

package grpcengine_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestDeadlineIsForwarded(t *testing.T) {
	leakCheck(t)
	left := make(chan time.Duration, 1)
	_, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		d, ok := s.Context().Deadline()
		if !ok {
			return status.Error(codes.Internal, "no deadline")
		}
		left <- time.Until(d)
		<-s.Context().Done()
		return s.Context().Err()
	})
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := unary(ctx, cc, "x"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	if d := <-left; d > 300*time.Millisecond || d < 50*time.Millisecond {
		t.Errorf("the peer had %v left", d)
	}
}

func TestCancelReachesPeer(t *testing.T) {
	leakCheck(t)
	started, ended := make(chan struct{}), make(chan error, 1)
	s, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		close(started)
		<-s.Context().Done()
		ended <- s.Context().Err()
		return nil
	})
	ctx, cancel := context.WithCancel(testContext(t))
	st, err := cc.NewStream(ctx, bidi, method)
	must(t, err)
	<-started
	cancel()
	select {
	case err := <-ended:
		if err != context.Canceled {
			t.Errorf("the peer's context ended with %v", err)
		}
	case <-time.After(time.Second):
		t.Error("the peer was not told")
	}
	if err := st.RecvMsg(new(message)); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	s.quiet()
}

func TestClientGoneReachesPeer(t *testing.T) {
	leakCheck(t)
	started, ended := make(chan struct{}), make(chan struct{})
	s, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		close(started)
		<-s.Context().Done()
		close(ended)
		return nil
	})
	_, err := cc.NewStream(testContext(t), bidi, method)
	must(t, err)
	<-started
	cc.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the peer was not told")
	}
	s.quiet()
}

func TestHalfCloseReachesPeer(t *testing.T) {
	leakCheck(t)
	_, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		if err := s.RecvMsg(new(message)); err != io.EOF {
			return status.Errorf(codes.Internal, "want the half-close, got %v", err)
		}
		m := message("after")
		return s.SendMsg(&m)
	})
	st, err := cc.NewStream(testContext(t), bidi, method)
	must(t, err)
	must(t, st.CloseSend())
	var m message
	must(t, st.RecvMsg(&m))
	if string(m) != "after" {
		t.Errorf("got %q", m)
	}
}

func TestEarlyEndWhileClientSends(t *testing.T) {
	leakCheck(t)
	s, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		if err := s.RecvMsg(new(message)); err != nil {
			return err
		}
		return status.Error(codes.FailedPrecondition, "enough")
	})
	for range 20 {
		st, err := cc.NewStream(testContext(t), bidi, method)
		must(t, err)
		m := message(strings.Repeat("x", 10000))
		for err == nil {
			err = st.SendMsg(&m)
		}
		if err != io.EOF {
			t.Fatalf("SendMsg: %v", err)
		}
		if err := st.RecvMsg(new(message)); status.Code(err) != codes.FailedPrecondition {
			t.Fatalf("got %v", err)
		}
	}
	s.quiet()
}

func TestEarlyOKWhileClientSends(t *testing.T) {
	leakCheck(t)
	s, _, cc := pair(t, func(*backend, grpc.ServerStream) error { return nil })
	st, err := cc.NewStream(testContext(t), bidi, method)
	must(t, err)
	m := message(strings.Repeat("x", 10000))
	for err == nil {
		err = st.SendMsg(&m)
	}
	if err := st.RecvMsg(new(message)); err != io.EOF {
		t.Fatalf("got %v", err)
	}
	s.quiet()
}

// An early end on the wire: trailers, then RST_STREAM(NO_ERROR), which says that the rest of the request is not wanted
// (RFC 9113 §8.1).
func TestEarlyEndIsFollowedByResetWithoutError(t *testing.T) {
	leakCheck(t)
	s, _, _ := pair(t, func(*backend, grpc.ServerStream) error { return nil })
	c := dialRaw(t, s.address)
	c.request(1, false)
	if h := c.next(); h == nil || !h.StreamEnded() || len(field(h, "grpc-status")) != 1 {
		t.Fatalf("want Trailers-Only, got %v", h)
	}
	if f, ok := c.frame().(*http2.RSTStreamFrame); !ok || f.ErrCode != http2.ErrCodeNo {
		t.Errorf("got %v", f)
	}
}

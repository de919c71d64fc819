package grpcengine_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestUnary(t *testing.T) {
	leakCheck(t)
	s, _, cc := pair(t, echo)
	random := make([]byte, 1000)
	rand.Read(random)
	for _, body := range []string{"", "hello", `{"json":true}`, string(random)} {
		got, err := unary(testContext(t), cc, body)
		must(t, err)
		if got != body {
			t.Errorf("sent %q, got %q", body, got)
		}
	}
	s.quiet()
}

func TestTenMegabytes(t *testing.T) {
	leakCheck(t)
	_, _, cc := pair(t, echo)
	body := make([]byte, 10<<20)
	rand.Read(body)
	got, err := unary(testContext(t), cc, string(body))
	must(t, err)
	if got != string(body) {
		t.Error("the message came back changed")
	}
}

func TestStreams(t *testing.T) {
	leakCheck(t)
	s, _, cc := pair(t, echo)
	st, err := cc.NewStream(testContext(t), bidi, method)
	must(t, err)
	for i := range 100 {
		m := message(fmt.Sprint(i))
		must(t, st.SendMsg(&m))
		var got message
		must(t, st.RecvMsg(&got)) // each message passes at once, waiting for no other
		if !bytes.Equal(got, m) {
			t.Fatalf("sent %q, got %q", m, got)
		}
	}
	must(t, st.CloseSend())
	if err := st.RecvMsg(new(message)); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
	s.quiet()
}

func TestClientStream(t *testing.T) {
	leakCheck(t)
	_, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		n := 0
		for s.RecvMsg(new(message)) == nil {
			n++
		}
		m := message(fmt.Sprint(n))
		return s.SendMsg(&m)
	})
	st, err := cc.NewStream(testContext(t), &grpc.StreamDesc{ClientStreams: true}, method)
	must(t, err)
	for range 1000 {
		must(t, st.SendMsg(new(message)))
	}
	must(t, st.CloseSend())
	var got message
	must(t, st.RecvMsg(&got))
	if string(got) != "1000" {
		t.Errorf("the peer counted %s messages", got)
	}
}

func TestServerStream(t *testing.T) {
	leakCheck(t)
	_, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		for i := range 1000 {
			m := message(fmt.Sprint(i))
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
		return nil
	})
	st, err := cc.NewStream(testContext(t), &grpc.StreamDesc{ServerStreams: true}, method)
	must(t, err)
	must(t, st.SendMsg(new(message)))
	for i := range 1000 {
		var m message
		must(t, st.RecvMsg(&m))
		if string(m) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m)
		}
	}
	if err := st.RecvMsg(new(message)); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}

// Plain grpc-proxy sends headers with the first message: a client that waits for them first hangs.
func TestHeadersPassBeforeAnyMessage(t *testing.T) {
	leakCheck(t)
	_, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		if err := s.SendHeader(metadata.Pairs("k", "v")); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	})
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	st, err := cc.NewStream(ctx, bidi, method)
	must(t, err)
	md, err := st.Header()
	must(t, err)
	if got := md.Get("k"); len(got) != 1 || got[0] != "v" {
		t.Errorf("header k is %q", got)
	}
}

func TestHeadersFollowedByErrorKeepMetadata(t *testing.T) {
	leakCheck(t)
	_, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		s.SetTrailer(metadata.Pairs("t", "2", "t", "3", "t-bin", "\x00\xff"))
		if err := s.SendHeader(metadata.Pairs("h", "1", "h", "0", "h-bin", "\x01\xfe")); err != nil {
			return err
		}
		return status.Error(codes.Aborted, "sorry: ünïcode %")
	})
	var header, trailer metadata.MD
	_, err := unary(testContext(t), cc, "x", grpc.Header(&header), grpc.Trailer(&trailer))
	if st := status.Convert(err); st.Code() != codes.Aborted || st.Message() != "sorry: ünïcode %" {
		t.Errorf("status %v", st)
	}
	want := map[string][]string{"h": {"1", "0"}, "h-bin": {"\x01\xfe"}}
	for k, v := range want {
		if fmt.Sprint(header[k]) != fmt.Sprint(v) {
			t.Errorf("header %s is %q", k, header[k])
		}
	}
	if fmt.Sprint(trailer["t"]) != "[2 3]" || fmt.Sprint(trailer["t-bin"]) != "[\x00\xff]" {
		t.Errorf("trailer %q", trailer)
	}
	if len(trailer["content-type"]) != 0 {
		t.Errorf("trailer has a content-type: %q", trailer)
	}
}

// Plain grpc-proxy turns Trailers-Only into headers and trailers, and a client's retry policy takes that for another thing.
func TestTrailersOnlyStaysTrailersOnly(t *testing.T) {
	leakCheck(t)
	policy := grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":4,
		"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`)
	for _, c := range []struct {
		name    string
		headers bool
		md      metadata.MD
		calls   int64
	}{
		{name: "Trailers-Only is retried by the client as its policy says", calls: 4},
		{name: "what came with headers is not", headers: true, calls: 1},
		{name: "pushback reaches the client", md: metadata.Pairs("grpc-retry-pushback-ms", "-1"), calls: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, b, _ := pair(t, func(_ *backend, s grpc.ServerStream) error {
				if c.headers {
					if err := s.SendHeader(nil); err != nil {
						return err
					}
				}
				s.SetTrailer(c.md)
				return status.Error(codes.Unavailable, "not now")
			})
			_, err := unary(testContext(t), dial(t, s.address, policy), "x")
			if status.Code(err) != codes.Unavailable {
				t.Errorf("got %v", err)
			}
			if n := b.calls.Load(); n != c.calls {
				t.Errorf("the peer was called %d times, want %d", n, c.calls)
			}
		})
	}
}

func TestStatusUntouched(t *testing.T) {
	leakCheck(t)
	detail, err := anypb.New(durationpb.New(time.Minute))
	must(t, err)
	raw, err := proto.Marshal(&spb.Status{Code: 9, Message: "m", Details: []*anypb.Any{detail}})
	must(t, err)
	cases := []struct {
		code    codes.Code
		message string
		trailer metadata.MD
	}{
		{code: 9, message: "m", trailer: metadata.Pairs("grpc-status-details-bin", string(raw))},
		{code: 99, message: "unknown code"},
		{code: 14, message: "the connection is draining"}, // a peer's own words, if also grpc-go's
		{code: 2, message: ""},
		{code: 13, message: "failed proxying s2c: no, this is the peer's"},
		{code: 3, message: "endpoint load", trailer: metadata.Pairs("endpoint-load-metrics-bin", "\x01")},
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		cases = append(cases, struct {
			code    codes.Code
			message string
			trailer metadata.MD
		}{code: code, message: code.String()})
	}
	i := 0
	_, _, cc := pair(t, func(_ *backend, s grpc.ServerStream) error {
		s.SetTrailer(cases[i].trailer)
		return status.Error(cases[i].code, cases[i].message)
	})
	for ; i < len(cases); i++ {
		var trailer metadata.MD
		_, err := unary(testContext(t), cc, "x", grpc.Trailer(&trailer))
		if st := status.Convert(err); st.Code() != cases[i].code || st.Message() != cases[i].message {
			t.Errorf("case %d: got %v", i, st)
		}
		for k, v := range cases[i].trailer {
			if fmt.Sprint(trailer[k]) != fmt.Sprint(v) {
				t.Errorf("case %d: trailer %s is %q", i, k, trailer[k])
			}
		}
	}
}

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
	_, b, _ := pair(t, func(*backend, grpc.ServerStream) error { return nil })
	s := startSidecar(t, options{})
	s.use(b)
	c := dialRaw(t, s.address)
	c.request(1, false)
	if h := c.next(); h == nil || !h.StreamEnded() || len(field(h, "grpc-status")) != 1 {
		t.Fatalf("want Trailers-Only, got %v", h)
	}
	if f, ok := c.frame().(*http2.RSTStreamFrame); !ok || f.ErrCode != http2.ErrCodeNo {
		t.Errorf("got %v", f)
	}
}

// However a client cuts what it sends, the peer gets the messages.
func TestDataSplitAnywhere(t *testing.T) {
	leakCheck(t)
	_, b, _ := pair(t, echo)
	s := startSidecar(t, options{})
	s.use(b)
	c := dialRaw(t, s.address)
	c.request(1, false)
	for _, b := range []byte("\x00\x00\x00\x00\x03abc\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02de") {
		must(t, c.f.WriteDataPadded(1, false, []byte{b}, make([]byte, 7)))
		must(t, c.f.WriteData(1, false, nil))
	}
	must(t, c.f.WriteData(1, true, nil))
	var got []byte
	for ended := false; !ended; {
		switch f := c.frame().(type) {
		case nil:
			t.Fatal("connection lost")
		case *http2.DataFrame:
			got = append(got, f.Data()...)
		case *http2.MetaHeadersFrame:
			ended = f.StreamEnded()
		}
	}
	if string(got) != "\x00\x00\x00\x00\x03abc\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02de" {
		t.Errorf("got %q", got)
	}
}

// A hundred streams that nobody reads, in either direction, do not hold up another call.
func TestStalledStreamsBlockNoOther(t *testing.T) {
	leakCheck(t)
	s, _, cc := pair(t, func(b *backend, s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		m := message(strings.Repeat("x", 32<<10))
		switch {
		case md["stall"] == nil:
			return echo(b, s)
		case md["stall"][0] == "server": // reads nothing
			<-s.Context().Done()
			return nil
		}
		for { // writes what nobody reads
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 50 {
		_, err := cc.NewStream(metadata.AppendToOutgoingContext(ctx, "stall", "client"), bidi, method)
		must(t, err)
		st, err := cc.NewStream(metadata.AppendToOutgoingContext(ctx, "stall", "server"), bidi, method)
		must(t, err)
		go fill(st)
	}
	for range 20 {
		_, err := unary(testContext(t), cc, strings.Repeat("y", 100<<10))
		must(t, err)
	}
	cancel()
	s.quiet()
}

// fill sends until it cannot.
func fill(st grpc.ClientStream) {
	m := message(strings.Repeat("x", 32<<10))
	for st.SendMsg(&m) == nil {
	}
}

package grpcengine_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
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

// However a client cuts what it sends, the peer gets the messages.
func TestDataSplitAnywhere(t *testing.T) {
	leakCheck(t)
	s, _, _ := pair(t, echo)
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

package enginetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// calls are tests of what goes through a call that nothing happens to.
func calls() []one {
	return []one{
		{"Unary", testUnary},
		{"TenMegabytes", testTenMegabytes},
		{"MessagesPassAtOnce", testMessagesPassAtOnce},
		{"ClientStream", testClientStream},
		{"ServerStream", testServerStream},
		{"DataSplitAnywhere", testDataSplitAnywhere},
		{"StalledStreamsBlockNoOther", testStalledStreams},
	}
}

func testUnary(t *testing.T, e Subject) {
	s, _, cc := e.Pair(t, Echo)
	random := make([]byte, 1000)
	rand.Read(random)
	for _, body := range []string{"", "hello", `{"json":true}`, string(random)} {
		got, err := Unary(Context(t), cc, body)
		Must(t, err)
		if got != body {
			t.Errorf("sent %q, got %q", body, got)
		}
	}
	s.Quiet()
}

func testTenMegabytes(t *testing.T, e Subject) {
	s, _, cc := e.Pair(t, Echo)
	body := make([]byte, 10<<20)
	rand.Read(body)
	got, err := Unary(Context(t), cc, string(body))
	Must(t, err)
	if got != string(body) {
		t.Error("the message came back changed")
	}
	s.Quiet()
}

// Each message passes when it was sent and waits for no other.
func testMessagesPassAtOnce(t *testing.T, e Subject) {
	s, _, cc := e.Pair(t, Echo)
	st := Open(t, Context(t), cc)
	for i := range 100 {
		m := Message(fmt.Sprint(i))
		Must(t, st.SendMsg(&m))
		var got Message
		Must(t, st.RecvMsg(&got))
		if !bytes.Equal(got, m) {
			t.Fatalf("sent %q, got %q", m, got)
		}
	}
	End(t, st)
	s.Quiet()
}

// End closes the request and awaits OK.
func End(t testing.TB, st grpc.ClientStream) {
	t.Helper()
	Must(t, st.CloseSend())
	if err := st.RecvMsg(new(Message)); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func testClientStream(t *testing.T, e Subject) {
	_, _, cc := e.Pair(t, func(_ *Backend, s grpc.ServerStream) error {
		n := 0
		for s.RecvMsg(new(Message)) == nil {
			n++
		}
		m := Message(fmt.Sprint(n))
		return s.SendMsg(&m)
	})
	st := Open(t, Context(t), cc)
	for range 1000 {
		Must(t, st.SendMsg(new(Message)))
	}
	Must(t, st.CloseSend())
	var got Message
	Must(t, st.RecvMsg(&got))
	if string(got) != "1000" {
		t.Errorf("the peer counted %s messages", got)
	}
	End(t, st)
}

func testServerStream(t *testing.T, e Subject) {
	_, _, cc := e.Pair(t, func(_ *Backend, s grpc.ServerStream) error {
		for i := range 1000 {
			m := Message(fmt.Sprint(i))
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
		return nil
	})
	st := Open(t, Context(t), cc)
	for i := range 1000 {
		var m Message
		Must(t, st.RecvMsg(&m))
		if string(m) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m)
		}
	}
	End(t, st)
}

// However a client cuts what it sends, the peer gets the messages.
func testDataSplitAnywhere(t *testing.T, e Subject) {
	const sent = "\x00\x00\x00\x00\x03abc\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02de"
	s, _, _ := e.Pair(t, Echo)
	c := DialRaw(t, s.Address)
	c.Request(1, false)
	for _, b := range []byte(sent) {
		Must(t, c.Framer.WriteDataPadded(1, false, []byte{b}, make([]byte, 7)))
		Must(t, c.Framer.WriteData(1, false, nil))
	}
	Must(t, c.Framer.WriteData(1, true, nil))
	var got []byte
	for ended := false; !ended; {
		switch f := c.Frame().(type) {
		case nil:
			t.Fatal("connection lost")
		case *http2.DataFrame:
			got = append(got, f.Data()...)
		case *http2.MetaHeadersFrame:
			ended = f.StreamEnded()
		}
	}
	if string(got) != sent {
		t.Errorf("got %q", got)
	}
}

// A hundred streams that nobody reads, in either direction, do not hold up another call.
func testStalledStreams(t *testing.T, e Subject) {
	s, _, cc := e.Pair(t, func(b *Backend, s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		m := Message(strings.Repeat("x", 32<<10))
		switch {
		case md["stall"] == nil:
			return Echo(b, s)
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
	ctx, cancel := context.WithCancel(context.Background()) // only the test ends them
	defer cancel()
	var fills sync.WaitGroup
	for range 50 {
		Open(t, metadata.AppendToOutgoingContext(ctx, "stall", "client"), cc)
		st := Open(t, metadata.AppendToOutgoingContext(ctx, "stall", "server"), cc)
		fills.Go(func() { fill(st) })
	}
	for range 5 {
		_, err := Unary(Context(t), cc, strings.Repeat("y", 100<<10))
		Must(t, err)
	}
	cancel()
	fills.Wait()
	s.Quiet()
}

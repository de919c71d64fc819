package enginetest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Method is the full method of the suite's calls. No peer registers its service: the router's own service answers it.
const Method = "/test.Test/Call"

// Dial gives a client of address.
func Dial(t testing.TB, address string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	return dialPlain(t, address, append([]grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(Codec{}), grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithMaxHeaderListSize(1 << 20),
	}, opts...)...)
}

// dialPlain gives a client that speaks protobuf.
func dialPlain(t testing.TB, address string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy()}, opts...)
	cc, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// Unary makes one unary call.
func Unary(ctx context.Context, cc *grpc.ClientConn, body string, opts ...grpc.CallOption) (string, error) {
	return unaryOf(ctx, cc, Method, body, opts...)
}

func unaryOf(ctx context.Context, cc *grpc.ClientConn, method, body string, opts ...grpc.CallOption) (string, error) {
	in, out := Message(body), Message(nil)
	err := cc.Invoke(ctx, method, &in, &out, opts...)
	return string(out), err
}

// Open opens a call that streams both ways.
func Open(t testing.TB, ctx context.Context, cc *grpc.ClientConn, opts ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	st, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, Method, opts...)
	Must(t, err)
	return st
}

// Begin opens a call and awaits its response headers: a peer holds it.
func Begin(t testing.TB, ctx context.Context, cc *grpc.ClientConn, opts ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	st := Open(t, ctx, cc, opts...)
	_, err := st.Header()
	Must(t, err)
	return st
}

// Later makes a call and tells how it went: "x<nil>" when its one message came back.
func Later(t testing.TB, cc *grpc.ClientConn) <-chan string {
	c := make(chan string, 1)
	ctx := Context(t)
	go func() {
		got, err := Unary(ctx, cc, "x")
		c <- fmt.Sprint(got, err)
	}()
	return c
}

// fill sends until it cannot.
func fill(st grpc.ClientStream) {
	m := Message(strings.Repeat("x", 32<<10))
	for st.SendMsg(&m) == nil {
	}
}

// finish sends one message on a call whose peer echoes, gets it back and ends the call.
func finish(t testing.TB, st grpc.ClientStream) {
	t.Helper()
	m := Message("still there")
	Must(t, st.SendMsg(&m))
	var got Message
	Must(t, st.RecvMsg(&got))
	if string(got) != string(m) {
		t.Errorf("sent %q, got %q", m, got)
	}
	End(t, st)
}

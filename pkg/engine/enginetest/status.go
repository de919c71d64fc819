package enginetest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// statuses are tests of how a call's response begins and ends.
func statuses() []one {
	return []one{
		{"HeadersPassBeforeAnyMessage", testHeadersPassAtOnce},
		{"HeadersFollowedByErrorKeepMetadata", testHeadersThenError},
		{"TrailersOnlyStaysTrailersOnly", testTrailersOnly},
		{"Untouched", testStatusUntouched},
	}
}

// A client may wait for the headers before it sends or reads a message.
func testHeadersPassAtOnce(t *testing.T, e Subject) {
	_, _, cc := e.Pair(t, func(_ *Backend, s grpc.ServerStream) error {
		if err := s.SendHeader(metadata.Pairs("k", "v")); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	})
	ctx, cancel := context.WithCancel(Context(t))
	defer cancel()
	md, err := Open(t, ctx, cc).Header()
	Must(t, err)
	if got := md.Get("k"); len(got) != 1 || got[0] != "v" {
		t.Errorf("header k is %q", got)
	}
}

func testHeadersThenError(t *testing.T, e Subject) {
	_, _, cc := e.Pair(t, func(_ *Backend, s grpc.ServerStream) error {
		s.SetTrailer(metadata.Pairs("t", "2", "t", "3", "t-bin", "\x00\xff"))
		if err := s.SendHeader(metadata.Pairs("h", "1", "h", "0", "h-bin", "\x01\xfe")); err != nil {
			return err
		}
		return status.Error(codes.Aborted, "sorry: ünïcode %")
	})
	var header, trailer metadata.MD
	_, err := Unary(Context(t), cc, "x", grpc.Header(&header), grpc.Trailer(&trailer))
	if st := status.Convert(err); st.Code() != codes.Aborted || st.Message() != "sorry: ünïcode %" {
		t.Errorf("status %v", st)
	}
	for k, v := range map[string][]string{"h": {"1", "0"}, "h-bin": {"\x01\xfe"}} {
		if !slices.Equal(header[k], v) {
			t.Errorf("header %s is %q", k, header[k])
		}
	}
	for k, v := range map[string][]string{"t": {"2", "3"}, "t-bin": {"\x00\xff"}} {
		if !slices.Equal(trailer[k], v) {
			t.Errorf("trailer %s is %q", k, trailer[k])
		}
	}
	if len(trailer["content-type"]) != 0 {
		t.Errorf("trailer has a content-type: %q", trailer)
	}
}

// Headers and then trailers would be another thing to a client's retry policy (gRFC A6): it does not retry what has begun.
func testTrailersOnly(t *testing.T, e Subject) {
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
			CheckLeaks(t)
			s, b, _ := e.Pair(t, func(_ *Backend, s grpc.ServerStream) error {
				if c.headers {
					if err := s.SendHeader(nil); err != nil {
						return err
					}
				}
				s.SetTrailer(c.md)
				return status.Error(codes.Unavailable, "not now")
			})
			// A client that has exhausted its retries while it was sending says so without a code (grpc-go's shouldRetry).
			_, err := Unary(Context(t), Dial(t, s.Address, policy), "x")
			if status.Code(err) != codes.Unavailable && !strings.Contains(fmt.Sprint(err), "max retries exhausted") {
				t.Errorf("got %v", err)
			}
			if n := b.Calls.Load(); n != c.calls {
				t.Errorf("the peer was called %d times, want %d", n, c.calls)
			}
		})
	}
}

func testStatusUntouched(t *testing.T, e Subject) {
	detail, err := anypb.New(durationpb.New(time.Minute))
	Must(t, err)
	raw, err := proto.Marshal(&spb.Status{Code: 9, Message: "m", Details: []*anypb.Any{detail}})
	Must(t, err)
	type answer struct {
		code    codes.Code
		message string
		trailer metadata.MD
	}
	cases := []answer{
		{code: 9, message: "m", trailer: metadata.Pairs("grpc-status-details-bin", string(raw))},
		{code: 99, message: "unknown code"},
		{code: 14, message: "the connection is draining"}, // a peer's own words, if also grpc-go's
		{code: 2, message: ""},
		{code: 13, message: "failed proxying s2c: no, this is the peer's"},
		{code: 3, message: "endpoint load", trailer: metadata.Pairs("endpoint-load-metrics-bin", "\x01")},
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		cases = append(cases, answer{code: code, message: code.String()})
	}
	_, _, cc := e.Pair(t, func(_ *Backend, s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		i, err := strconv.Atoi(md["case"][0])
		if err != nil {
			return err
		}
		a := cases[i]
		s.SetTrailer(a.trailer)
		return status.Error(a.code, a.message)
	})
	for i, c := range cases {
		var trailer metadata.MD
		ctx := metadata.AppendToOutgoingContext(Context(t), "case", fmt.Sprint(i))
		_, err := Unary(ctx, cc, "x", grpc.Trailer(&trailer))
		if st := status.Convert(err); st.Code() != c.code || st.Message() != c.message {
			t.Errorf("%v %q: got %v", c.code, c.message, st)
		}
		for k, v := range c.trailer {
			if !slices.Equal(trailer[k], v) {
				t.Errorf("%v %q: trailer %s is %q", c.code, c.message, k, trailer[k])
			}
		}
	}
}

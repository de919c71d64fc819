package grpcengine_test

import (
	"context"
	"fmt"
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
			// A client that has exhausted its retries while it was sending says so without a code (grpc-go's shouldRetry).
			_, err := unary(testContext(t), dial(t, s.address, policy), "x")
			if status.Code(err) != codes.Unavailable && !strings.Contains(fmt.Sprint(err), "max retries exhausted") {
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

package interop_test

import (
	"bytes"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"github.com/flyproxy/flyproxy/test/conformance/h2script"
)

// negativeCase is one of grpc-go's negative client, and what its server does. serve returns once the server has seen all that it
// should; the client judges the rest.
type negativeCase struct {
	Name     string
	Settings []http2.Setting
	serve    func(t *testing.T, s *negativeServer)
	// Says is in what the client prints at its end, when that is not a good one.
	Says string
}

var oneStream = []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}

// The server's part of gRPC's negative HTTP/2 interop tests ("negative-http2-interop-test-descriptions").
var negativeCases = []negativeCase{
	{Name: "goaway", serve: func(t *testing.T, s *negativeServer) {
		first := s.take(t)
		s.respond(first)
		first.Conn.GoAway(first.ID, http2.ErrCodeNo)
		second := s.take(t)
		if second.Conn == first.Conn {
			t.Error("the call after GOAWAY comes on the same connection")
		}
		s.respond(second)
	}},
	{Name: "rst_after_header", serve: func(t *testing.T, s *negativeServer) {
		c := s.take(t)
		c.SendHeaders(false, h2script.Response()...)
		c.SendReset(http2.ErrCodeNo)
	}},
	// The client wants UNKNOWN, as grpc-go had it long ago; the library itself says INTERNAL when a message is cut off, with and
	// without a proxy.
	{Name: "rst_during_data", Says: "UnaryCall() = _, Internal, want _, Unknown", serve: func(t *testing.T, s *negativeServer) {
		c := s.take(t)
		c.SendHeaders(false, h2script.Response()...)
		c.Upload(s.response[:len(s.response)/2], false, patience)
		c.SendReset(http2.ErrCodeNo)
	}},
	{Name: "rst_after_data", serve: func(t *testing.T, s *negativeServer) {
		c := s.take(t)
		c.SendHeaders(false, h2script.Response()...)
		c.Upload(s.response, false, patience)
		c.SendReset(http2.ErrCodeNo)
	}},
	{Name: "ping", serve: func(t *testing.T, s *negativeServer) {
		c := s.take(t)
		c.Conn.Ping(1)
		c.SendHeaders(false, h2script.Response()...)
		c.Conn.Ping(2)
		c.Upload(s.response, false, patience)
		c.Conn.Ping(3)
		c.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
	}},
	{Name: "max_streams", Settings: oneStream, serve: func(t *testing.T, s *negativeServer) {
		const calls = 1 + 15
		var answering sync.WaitGroup
		for range calls {
			c := s.take(t)
			answering.Go(func() { s.respond(c) })
		}
		answering.Wait()
		for _, c := range s.Conns() {
			if c.Peak() > 1 {
				t.Errorf("a connection had %d streams at a time, want 1 at most", c.Peak())
			}
		}
	}},
}

// TestNegative runs grpc-go's negative HTTP/2 client against a server that does what the client's test case is about.
func TestNegative(t *testing.T) {
	t.Parallel()
	for _, p := range append([]plane{direct}, planes...) {
		t.Run(p.Name, func(t *testing.T) {
			for _, tc := range negativeCases {
				t.Run(tc.Name, func(t *testing.T) {
					s := startNegative(t, tc.Settings)
					client := startProgram(t, "negative", p.start(t, s.Address), "-test_case", tc.Name)
					tc.serve(t, s)
					client.wait(t, tc.Says)
				})
			}
		})
	}
}

// negativeServer is a scripted server of grpc.testing.TestService.
type negativeServer struct {
	*h2script.Server
	requests *h2script.Requests
	// response is the message that the client wants.
	response []byte
}

func startNegative(t *testing.T, settings []http2.Setting) *negativeServer {
	const size = 314159
	body, err := proto.Marshal(&testpb.SimpleResponse{Payload: &testpb.Payload{Body: bytes.Repeat([]byte{0}, size)}})
	if err != nil {
		t.Fatal(err)
	}
	requests := h2script.NewRequests()
	return &negativeServer{
		Server:   h2script.Serve(t, requests, h2script.Options{Settings: settings, Credit: h2script.CreditAll}),
		requests: requests, response: h2script.Message(0, string(body)),
	}
}

// take awaits the next call, with its whole request.
func (s *negativeServer) take(t *testing.T) *h2script.Stream {
	t.Helper()
	c := s.requests.Take("/grpc.testing.TestService/UnaryCall", patience)
	if c == nil {
		t.Fatal("no call comes")
	}
	for {
		e, ok := c.Came(patience)
		switch {
		case !ok || e.Closed || e.Type == http2.FrameRSTStream:
			t.Fatalf("instead of the whole request: %s", &e)
		case e.End():
			return c
		}
	}
}

// respond answers a call as it should be.
func (s *negativeServer) respond(c *h2script.Stream) {
	c.SendHeaders(false, h2script.Response()...)
	c.Upload(s.response, false, patience)
	c.SendHeaders(true, h2script.Fields("grpc-status", "0")...)
}

package enginetest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
)

// metadataOfCalls are tests of header fields on their way to the peer and back.
func metadataOfCalls() []one {
	return []one{
		{"Passes", testMetadataPasses},
		{"MuchPasses", testMuchMetadataPasses},
		{"AuthorityPasses", testAuthorityPasses},
		{"ContentSubtypePasses", testContentSubtypePasses},
		{"RoutingHeadersAreConsumed", testRoutingHeadersAreConsumed},
		{"ConnectionHeadersStayOnTheirHop", testConnectionHeaders},
		{"GzipPasses", testGzipPasses},
		{"GzipBetweenGrpcGo", testGzipBetweenGrpcGo},
	}
}

// seen is a sidecar with a peer that keeps the metadata of its last call, and a client.
func seen(t testing.TB, e Subject, h Handler) (*grpc.ClientConn, *metadata.MD) {
	t.Helper()
	md := new(metadata.MD)
	_, _, cc := e.Pair(t, func(b *Backend, st grpc.ServerStream) error {
		*md, _ = metadata.FromIncomingContext(st.Context())
		return h(b, st)
	})
	return cc, md
}

func testMetadataPasses(t *testing.T, e Subject) {
	cc, got := seen(t, e, Echo)
	random := make([]byte, 512)
	rand.Read(random)
	want := metadata.MD{
		"dup":                        {"2", "1", "", "2"},
		"random-bin":                 {string(random), "", "\x00"},
		"empty":                      {""},
		"grpc-previous-rpc-attempts": {"3"},
		"grpc-trace-bin":             {"\x01\x02"},
		// Merely named like HTTP headers: they steer nothing.
		"cookie": {"a=1; b=2"}, "date": {"yesterday"}, "cache-control": {"no-store"}, "location": {"x"},
		"authorization": {"Bearer x"},
	}
	_, err := Unary(metadata.NewOutgoingContext(Context(t), want), cc, "x")
	Must(t, err)
	for k, v := range want {
		if !slices.Equal((*got)[k], v) {
			t.Errorf("%s: sent %q, the peer got %q", k, v, (*got)[k])
		}
	}
	known := []string{":authority", "content-type", "user-agent", "grpc-accept-encoding"}
	for k := range *got {
		if _, ok := want[k]; !ok && !slices.Contains(known, k) {
			t.Errorf("the peer got %s, which nobody sent", k)
		}
	}
}

func testMuchMetadataPasses(t *testing.T, e Subject) {
	cc, got := seen(t, e, func(b *Backend, s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		back := metadata.MD{}
		for k, v := range md {
			if strings.HasPrefix(k, "k") {
				back[k] = v
			}
		}
		if err := s.SendHeader(back); err != nil {
			return err
		}
		s.SetTrailer(back)
		return Echo(b, s)
	})
	want := metadata.MD{}
	for i := range 100 {
		want[fmt.Sprint("k", i)] = []string{strings.Repeat(fmt.Sprint(i%10), 400)} // 40 KB in all
	}
	var header, trailer metadata.MD
	_, err := Unary(metadata.NewOutgoingContext(Context(t), want), cc, "x", grpc.Header(&header), grpc.Trailer(&trailer))
	Must(t, err)
	for k, v := range want {
		if !slices.Equal((*got)[k], v) || !slices.Equal(header[k], v) || !slices.Equal(trailer[k], v) {
			t.Fatalf("%s: changed on the way", k)
		}
	}
}

func testAuthorityPasses(t *testing.T, e Subject) {
	cc, got := seen(t, e, Echo)
	_, err := Unary(Context(t), cc, "x", grpc.CallAuthority("orders.example.com:443"))
	Must(t, err)
	if a := (*got)[":authority"]; len(a) != 1 || a[0] != "orders.example.com:443" {
		t.Errorf("the peer got :authority %q", a)
	}
}

func testContentSubtypePasses(t *testing.T, e Subject) {
	cc, got := seen(t, e, Echo)
	for subtype, want := range map[string]string{
		"": "application/grpc", "json": "application/grpc+json", "x.y-z": "application/grpc+x.y-z",
	} {
		var header metadata.MD
		_, err := Unary(Context(t), cc, "x", grpc.ForceCodecV2(Codec{Subtype: subtype}), grpc.Header(&header))
		Must(t, err)
		if ct := (*got)["content-type"]; len(ct) != 1 || ct[0] != want {
			t.Errorf("subtype %q: the peer got %q", subtype, ct)
		}
		if ct := header["content-type"]; len(ct) != 1 || ct[0] != want {
			t.Errorf("subtype %q: the client got %q", subtype, ct)
		}
	}
}

func testRoutingHeadersAreConsumed(t *testing.T, e Subject) {
	cc, got := seen(t, e, Echo)
	md := metadata.Pairs("Flyproxy-Service", "app", "fly-force-instance-id", "i0", "fly-other", "stays")
	_, err := Unary(metadata.NewOutgoingContext(Context(t), md), cc, "x")
	Must(t, err)
	if len((*got)["flyproxy-service"])+len((*got)["fly-force-instance-id"]) > 0 || len((*got)["fly-other"]) != 1 {
		t.Errorf("the peer got %q", *got)
	}
}

// Connection-level fields are for one hop only, and a message with them is malformed (RFC 9113 §8.2.2). Whether it passes
// without them or ends the call, they do not reach the other side, and the connection goes on.
func testConnectionHeaders(t *testing.T, e Subject) {
	for _, name := range []string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"} {
		t.Run(name, func(t *testing.T) {
			CheckLeaks(t)
			got := make(chan *http2.MetaHeadersFrame, 2)
			_, c := e.RawPair(t, func(p *RawConn) {
				for h := p.Next(); h != nil; h = p.Next() {
					Offer(got, h)
					if Values(h, "clean") == nil {
						p.Respond(h.StreamID, "h", "1")
						p.Message(h.StreamID, 0, "x")
						p.Headers(h.StreamID, true, "grpc-status", "0")
						continue
					}
					p.Respond(h.StreamID, "h", "1", name, "x")
					p.Message(h.StreamID, 0, "x")
					p.Headers(h.StreamID, true, "grpc-status", "0", "t", "1")
				}
			})
			c.Request(1, true, "mine", "1", name, "x")
			if e.RejectsConnectionHeaders || name == "connection" { // this one grpc-go's server rejects too
				if code, _ := c.Result(); code != "PROTOCOL_ERROR" {
					t.Errorf("a request with it ends with %s, want RST_STREAM(PROTOCOL_ERROR)", code)
				}
			} else {
				if h := Receive(t, got); len(Values(h, "mine")) != 1 || Values(h, name) != nil {
					t.Errorf("the peer got %v", h.Fields)
				}
				if code, _ := c.Result(); code != "0" {
					t.Errorf("a request with it ends with %s", code)
				}
			}
			c.Request(3, true, "clean", "1")
			header := c.Next()
			if header == nil {
				t.Fatal("connection lost")
			}
			if Values(header, name) != nil {
				t.Error("the client got it")
			}
			if e.RejectsConnectionHeaders {
				if code := Values(header, "grpc-status"); !slices.Equal(code, []string{"13"}) {
					t.Errorf("a response with it: the client got %v, want INTERNAL", header.Fields)
				}
				return
			}
			if len(Values(header, "h")) != 1 {
				t.Errorf("the client got the headers %v", header.Fields)
			}
			if trailer := c.Next(); trailer == nil || len(Values(trailer, "t")) != 1 {
				t.Errorf("the client got the trailers %v", trailer)
			}
		})
	}
}

// The encoding is kept on both ways: a message that came gzip'd leaves gzip'd, one that did not does not.
func testGzipPasses(t *testing.T, e Subject) {
	for _, c := range []struct{ request, response bool }{{}, {true, false}, {false, true}, {true, true}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			CheckLeaks(t)
			requestFlag, encoding := make(chan byte, 1), make(chan []string, 1)
			_, client := e.RawPair(t, func(p *RawConn) {
				h := p.Next()
				if h == nil {
					return
				}
				Offer(encoding, Values(h, "grpc-encoding"))
				Offer(requestFlag, p.Data()[0])
				if c.response {
					p.Respond(h.StreamID, "grpc-encoding", "gzip")
					p.Message(h.StreamID, 1, Gzipped("answer"))
				} else {
					p.Respond(h.StreamID)
					p.Message(h.StreamID, 0, "answer")
				}
				p.Headers(h.StreamID, true, "grpc-status", "0")
				p.Drain()
			})
			fields := []string{"grpc-accept-encoding", "identity,gzip"}
			body, flag := "question", byte(0)
			if c.request {
				fields = append(fields, "grpc-encoding", "gzip")
				body, flag = Gzipped(body), 1
			}
			client.Request(1, false, fields...)
			client.Message(1, flag, body)
			Must(t, client.Framer.WriteData(1, true, nil))
			if e := Receive(t, encoding); slices.Contains(e, "gzip") != c.request {
				t.Errorf("the peer got grpc-encoding %q", e)
			}
			if f := Receive(t, requestFlag); f != flag {
				t.Errorf("the peer got the flag %d", f)
			}
			h := client.Next()
			if h == nil {
				t.Fatal("no answer")
			}
			if e := Values(h, "grpc-encoding"); slices.Contains(e, "gzip") != c.response {
				t.Errorf("the client got grpc-encoding %q", e)
			}
			if f := client.Data()[0]; (f == 1) != c.response {
				t.Errorf("the client got the flag %d", f)
			}
		})
	}
}

func testGzipBetweenGrpcGo(t *testing.T, e Subject) {
	_, _, cc := e.Pair(t, Echo)
	body := strings.Repeat("squeeze me ", 10000)
	got, err := Unary(Context(t), cc, body, grpc.UseCompressor(gzip.Name))
	Must(t, err)
	if got != body {
		t.Error("the message came back changed")
	}
}

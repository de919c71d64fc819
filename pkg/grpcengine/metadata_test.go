package grpcengine_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
)

// seen is the metadata of a peer's last call.
func seen(t testing.TB, h handler) (*sidecar, *grpc.ClientConn, *metadata.MD) {
	t.Helper()
	md := new(metadata.MD)
	s, _, cc := pair(t, func(b *backend, st grpc.ServerStream) error {
		*md, _ = metadata.FromIncomingContext(st.Context())
		return h(b, st)
	})
	return s, cc, md
}

func TestMetadataPasses(t *testing.T) {
	leakCheck(t)
	_, cc, got := seen(t, echo)
	random := make([]byte, 512)
	rand.Read(random)
	want := metadata.MD{
		"dup":                        {"2", "1", "", "2"},
		"random-bin":                 {string(random), "", "\x00"},
		"empty":                      {""},
		"grpc-previous-rpc-attempts": {"3"},
		"grpc-trace-bin":             {"\x01\x02"},
		// Merely named like HTTP headers: they steer nothing.
		"cookie": {"a=1; b=2"}, "date": {"yesterday"}, "cache-control": {"no-store"}, "location": {"x"}, "authorization": {"Bearer x"},
	}
	_, err := unary(metadata.NewOutgoingContext(testContext(t), want), cc, "x")
	must(t, err)
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

func TestMuchMetadataPasses(t *testing.T) {
	leakCheck(t)
	_, cc, got := seen(t, func(b *backend, s grpc.ServerStream) error {
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
		return echo(b, s)
	})
	want := metadata.MD{}
	for i := range 100 {
		want[fmt.Sprint("k", i)] = []string{strings.Repeat(fmt.Sprint(i%10), 400)} // 40 KB in all
	}
	var header, trailer metadata.MD
	_, err := unary(metadata.NewOutgoingContext(testContext(t), want), cc, "x", grpc.Header(&header), grpc.Trailer(&trailer))
	must(t, err)
	for k, v := range want {
		if !slices.Equal((*got)[k], v) || !slices.Equal(header[k], v) || !slices.Equal(trailer[k], v) {
			t.Fatalf("%s: changed on the way", k)
		}
	}
}

func TestAuthorityPasses(t *testing.T) {
	leakCheck(t)
	_, cc, got := seen(t, echo)
	_, err := unary(testContext(t), cc, "x", grpc.CallAuthority("orders.example.com:443"))
	must(t, err)
	if a := (*got)[":authority"]; len(a) != 1 || a[0] != "orders.example.com:443" {
		t.Errorf("the peer got :authority %q", a)
	}
}

func TestContentSubtypePasses(t *testing.T) {
	leakCheck(t)
	_, cc, got := seen(t, echo)
	for subtype, want := range map[string]string{"": "application/grpc", "json": "application/grpc+json", "x.y-z": "application/grpc+x.y-z"} {
		var header metadata.MD
		_, err := unary(testContext(t), cc, "x", grpc.ForceCodecV2(bytesCodec{name: subtype}), grpc.Header(&header))
		must(t, err)
		if ct := (*got)["content-type"]; len(ct) != 1 || ct[0] != want {
			t.Errorf("subtype %q: the peer got %q", subtype, ct)
		}
		if ct := header["content-type"]; len(ct) != 1 || ct[0] != want {
			t.Errorf("subtype %q: the client got %q", subtype, ct)
		}
	}
}

func TestRoutingHeadersAreConsumed(t *testing.T) {
	leakCheck(t)
	_, cc, got := seen(t, echo)
	md := metadata.Pairs("Flyproxy-Service", "app", "fly-force-instance-id", "i0", "fly-other", "stays")
	_, err := unary(metadata.NewOutgoingContext(testContext(t), md), cc, "x")
	must(t, err)
	if len((*got)["flyproxy-service"])+len((*got)["fly-force-instance-id"]) > 0 || len((*got)["fly-other"]) != 1 {
		t.Errorf("the peer got %q", *got)
	}
}

func TestConnectionHeadersStayOnTheirHop(t *testing.T) {
	leakCheck(t)
	got := make(chan []string, 1)
	hop := []string{"keep-alive", "5", "proxy-connection", "close", "transfer-encoding", "chunked", "upgrade", "h2c", "content-length", "6"}
	raw := startRawPeer(t, nil, func(c *rawConn) {
		for h := c.next(); h != nil; h = c.next() {
			var names []string
			for _, f := range h.Fields {
				names = append(names, f.Name)
			}
			got <- names
			c.headers(h.StreamID, false, append([]string{":status", "200", "content-type", "application/grpc", "connection", "close", "h", "1"}, hop...)...)
			c.message(h.StreamID, 0, "x")
			c.headers(h.StreamID, true, append([]string{"grpc-status", "0", "t", "1", "connection", "close"}, hop...)...)
		}
	})
	s := startSidecar(t, options{})
	s.set(instance("only", raw.address))
	c := dialRaw(t, s.address)
	c.request(1, false, append([]string{"mine", "1"}, hop...)...)
	c.message(1, 0, "x")
	must(t, c.f.WriteData(1, true, nil))
	names := <-got
	if !slices.Contains(names, "mine") {
		t.Error("the peer did not get what is the client's")
	}
	header, trailer := c.next(), c.next()
	if header == nil || trailer == nil {
		t.Fatal("no answer")
	}
	if len(field(header, "h")) != 1 || len(field(trailer, "t")) != 1 {
		t.Error("the client did not get what is the peer's")
	}
	for _, name := range []string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length"} {
		if slices.Contains(names, name) || field(header, name) != nil || field(trailer, name) != nil {
			t.Errorf("%s was forwarded", name)
		}
	}
}

// The encoding is kept on both ways: a message that came gzip'd leaves gzip'd, one that did not does not.
func TestGzipPasses(t *testing.T) {
	leakCheck(t)
	for _, c := range []struct{ request, response bool }{{}, {true, false}, {false, true}, {true, true}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			requestFlag, encoding := make(chan byte, 1), make(chan []string, 1)
			raw := startRawPeer(t, nil, func(p *rawConn) {
				h := p.next()
				if h == nil {
					return
				}
				encoding <- field(h, "grpc-encoding")
				requestFlag <- p.data()[0]
				fields := []string{":status", "200", "content-type", "application/grpc"}
				body, flag := "answer", byte(0)
				if c.response {
					fields = append(fields, "grpc-encoding", "gzip")
					body, flag = gzipped(body), 1
				}
				p.headers(h.StreamID, false, fields...)
				p.message(h.StreamID, flag, body)
				p.headers(h.StreamID, true, "grpc-status", "0")
				p.next()
			})
			s := startSidecar(t, options{})
			s.set(instance("only", raw.address))
			client := dialRaw(t, s.address)
			fields := []string{"grpc-accept-encoding", "identity,gzip"}
			body, flag := "question", byte(0)
			if c.request {
				fields = append(fields, "grpc-encoding", "gzip")
				body, flag = gzipped(body), 1
			}
			client.request(1, false, fields...)
			client.message(1, flag, body)
			must(t, client.f.WriteData(1, true, nil))
			if e := <-encoding; slices.Contains(e, "gzip") != c.request {
				t.Errorf("the peer got grpc-encoding %q", e)
			}
			if f := <-requestFlag; f != flag {
				t.Errorf("the peer got the flag %d", f)
			}
			h := client.next()
			if h == nil {
				t.Fatal("no answer")
			}
			if e := field(h, "grpc-encoding"); slices.Contains(e, "gzip") != c.response {
				t.Errorf("the client got grpc-encoding %q", e)
			}
			if f := client.data()[0]; (f == 1) != c.response {
				t.Errorf("the client got the flag %d", f)
			}
		})
	}
}

func TestGzipBetweenGrpcGo(t *testing.T) {
	leakCheck(t)
	_, _, cc := pair(t, echo)
	body := strings.Repeat("squeeze me ", 10000)
	got, err := unary(testContext(t), cc, body, grpc.UseCompressor(gzip.Name))
	must(t, err)
	if got != body {
		t.Error("the message came back changed")
	}
}

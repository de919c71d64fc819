package relay_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// Streams that are reset leave little behind, however far apart their ids are.
func TestResetsFarApart(t *testing.T) {
	const clients, resets, most = 100, 128, 16 << 10
	b := newLimitBed(t, relay.Config{}, nil)
	var all []*enginetest.RawConn
	for range clients {
		c := enginetest.DialRaw(t, b.Address)
		b.echoes(c, 1)
		all = append(all, c)
	}
	before := flatSizeNow()
	for _, c := range all {
		for i := range uint32(resets) {
			id := 3 + 512*i
			c.Headers(id, true, "bad", "x") // without pseudo-headers
			if code, _ := result(c, id); code != "PROTOCOL_ERROR" {
				t.Fatalf("a malformed call ends with %s", code)
			}
		}
	}
	if grown := (int64(flatSizeNow().live) - int64(before.live)) / clients; grown > most {
		t.Errorf("%d octets more are in use for each client, %d are allowed", grown, most)
	}
}

// Calls to the sidecar's own services with a great many headers are refused before its server, which would keep them in maps, has them.
func TestHeadersOfOwnServices(t *testing.T) {
	enginetest.CheckLeaks(t)
	const calls, most = 200, 4 << 20
	s := with(relay.Config{}).Start(t, enginetest.Setup{Register: func(r grpc.ServiceRegistrar) {
		healthpb.RegisterHealthServer(r, health.NewServer())
	}})
	c := enginetest.DialRaw(t, s.Address)
	call := func(id uint32, more ...string) (code, message string) {
		c.Headers(id, false, append([]string{":method", "POST", ":scheme", "http", ":path", "/grpc.health.v1.Health/Check",
			":authority", "x", "content-type", "application/grpc", "te", "trailers"}, more...)...)
		if len(more) == 0 {
			enginetest.Must(t, c.Framer.WriteData(id, true, make([]byte, 5)))
		}
		return result(c, id)
	}
	call(1)
	before := flatSizeNow()
	for i := range uint32(calls) {
		if code, message := call(2*i+3, manyFields...); code != "8" {
			t.Fatalf("the call ends with %s %q", code, message)
		}
	}
	if grown := int64(flatSizeNow().live) - int64(before.live); grown > most {
		t.Errorf("%d octets more are in use", grown)
	}
	if code, message := call(2*calls + 3); code != "0" {
		t.Errorf("a usual call ends with %s %q", code, message)
	}
	if n := s.Engine.Stats().Limits["max_header_bytes"]; n != calls {
		t.Errorf("the limit was counted %d times", n)
	}
}

// Trailers that wait behind DATA which the client does not take count as held.
func TestTrailersThatWaitAreCounted(t *testing.T) {
	const calls, most = 100, 1 << 20
	b := newLimitBed(t, relay.Config{Limits: relay.Limits{BufferedBytes: most}}, func(c *enginetest.RawConn) {
		for h := c.Next(); h != nil; h = c.Next() {
			c.Respond(h.StreamID)
			pour(c, h.StreamID, 10, false)
			c.Headers(h.StreamID, true, append([]string{"grpc-status", "0"}, manyFields...)...)
		}
	})
	c := enginetest.DialRaw(t, b.Address)
	enginetest.Must(t, c.Framer.WriteSettings(shutWindows))
	go func() {
		for err := error(nil); err == nil; _, err = c.Framer.ReadFrame() { // nothing is answered, so that this goroutine alone writes
		}
	}()
	for i := range uint32(calls) {
		request(c, 2*i+1, true, "raw")
	}
	enginetest.Eventually(t, "the limit is hit, and again holds", func() bool {
		return b.hits("max_buffered_bytes") > calls/2 && b.Engine.Stats().BufferedBytes <= most
	})
	b.unharmed()
	enginetest.Must(t, c.Framer.WriteSettings(openWindows))
	enginetest.Eventually(t, "nothing is held", func() bool { return b.Engine.Stats().BufferedBytes == 0 })
}

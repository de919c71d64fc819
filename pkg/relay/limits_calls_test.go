package relay_test

import (
	"context"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// A stream too many is refused: the client knows that it was not processed. What the client has sent behind its headers was under
// way, and is no fault.
func TestStreamsPerConnection(t *testing.T) {
	b := newLimitBed(t, relay.Config{Limits: relay.Limits{StreamsPerConnection: 3}}, nil)
	c := enginetest.DialRaw(t, b.Address)
	f, err := c.Framer.ReadFrame()
	enginetest.Must(t, err)
	if s, ok := f.(*http2.SettingsFrame); !ok {
		t.Errorf("the first frame is %v", f)
	} else if n, _ := s.Value(http2.SettingMaxConcurrentStreams); n != 3 {
		t.Errorf("%d concurrent streams are announced", n)
	}
	for _, stream := range []uint32{1, 3, 5} {
		request(c, stream, false, "echo")
	}
	request(c, 7, false, "echo")
	c.Message(7, 0, "x")
	c.Headers(7, true, "k", "v")
	enginetest.Must(t, c.Framer.WritePing(false, [8]byte{1}))
	before := pong(t, c, [8]byte{1})
	if len(before) != 1 {
		t.Fatalf("%v came, want one RST_STREAM", before)
	}
	if r, ok := before[0].(*http2.RSTStreamFrame); !ok || r.StreamID != 7 || r.ErrCode != http2.ErrCodeRefusedStream {
		t.Fatalf("%v came, want REFUSED_STREAM on stream 7", before[0])
	}
	b.unharmed()
	c.Message(1, 0, "x")
	enginetest.Must(t, c.Framer.WriteData(1, true, nil))
	b.ends(c, 1, "0", "", "")
	b.echoes(c, 9)
	for _, stream := range []uint32{3, 5} {
		enginetest.Must(t, c.Framer.WriteRSTStream(stream, http2.ErrCodeCancel))
	}
	b.over("max_concurrent_streams", 1)
}

// A client that heeds the setting waits by itself, and none of its calls fails.
func TestClientWaitsForAStream(t *testing.T) {
	b := newLimitBed(t, relay.Config{Limits: relay.Limits{StreamsPerConnection: 2}}, nil)
	cc := enginetest.Dial(t, b.Address)
	b.passes(cc) // it has read the SETTINGS
	ctx, cancel := context.WithCancel(at(enginetest.Context(t), "echo"))
	enginetest.Open(t, ctx, cc)
	enginetest.Open(t, ctx, cc)
	enginetest.Eventually(t, "two calls of the client are open, and one of the second", func() bool { return b.Engine.Stats().InFlight == 3 })
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() { b.passes(cc) })
	}
	b.unharmed()
	if st := b.Engine.Stats(); st.InFlight != 3 {
		t.Errorf("%d calls are in flight, two of the client's and one of the second's are open", st.InFlight)
	}
	cancel()
	waiting.Wait()
	b.over("max_concurrent_streams", 0)
}

func TestCalls(t *testing.T) {
	b := newLimitBed(t, relay.Config{Limits: relay.Limits{Calls: 4}}, nil)
	c, cc := enginetest.DialRaw(t, b.Address), enginetest.Dial(t, b.Address)
	for _, stream := range []uint32{1, 3, 5} {
		request(c, stream, false, "echo")
	}
	enginetest.Eventually(t, "four calls are open", func() bool { return b.Engine.Stats().InFlight == 4 })
	for range 5 {
		_, err := enginetest.Unary(at(enginetest.Context(t), "echo"), cc, "x")
		if status.Code(err) != codes.ResourceExhausted {
			t.Fatalf("a fifth call gets %v", err)
		}
		names(t, err.Error(), "max_calls", "4")
		b.stands()
	}
	for _, stream := range []uint32{1, 3, 5} {
		enginetest.Must(t, c.Framer.WriteRSTStream(stream, http2.ErrCodeCancel))
	}
	enginetest.Eventually(t, "three of them have ended", func() bool { return b.Engine.Stats().InFlight == 1 })
	b.passes(cc)
	b.over("max_calls", 5)
}

// Calls that the sidecar itself answers, such as a watch that stays open, count as 32 each.
func TestCallsOfOwnServices(t *testing.T) {
	enginetest.CheckLeaks(t)
	s := with(relay.Config{Limits: relay.Limits{Calls: 64}}).Start(t, enginetest.Setup{Register: func(r grpc.ServiceRegistrar) {
		healthpb.RegisterHealthServer(r, health.NewServer())
	}})
	cc, err := grpc.NewClient(s.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	enginetest.Must(t, err)
	defer cc.Close()
	ctx, cancel := context.WithCancel(enginetest.Context(t))
	defer cancel()
	watch := func() error {
		st, err := healthpb.NewHealthClient(cc).Watch(ctx, &healthpb.HealthCheckRequest{})
		enginetest.Must(t, err)
		_, err = st.Recv()
		return err
	}
	enginetest.Must(t, watch())
	enginetest.Must(t, watch())
	err = watch()
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("a third watch gets %v", err)
	}
	names(t, err.Error(), "max_calls", "64")
	cancel()
	ctx = enginetest.Context(t)
	enginetest.Eventually(t, "there is room again", func() bool { return watch() == nil })
}

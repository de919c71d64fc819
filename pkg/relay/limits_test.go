package relay_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// limitBed is a sidecar with small limits, a peer "echo" and, where there is a script, a peer "raw". A second client has a call open
// all the time: whatever the others do, it must not suffer.
type limitBed struct {
	*enginetest.Sidecar
	t      *testing.T
	peers  []registry.Instance
	second *grpc.ClientConn
	held   grpc.ClientStream
}

func newLimitBed(t *testing.T, cfg relay.Config, script func(*enginetest.RawConn), settings ...http2.Setting) *limitBed {
	t.Helper()
	enginetest.CheckLeaks(t)
	peers := []registry.Instance{enginetest.Instance("echo", enginetest.StartBackend(t, enginetest.Echo).Address)}
	if script != nil {
		peers = append(peers, enginetest.Instance("raw", enginetest.StartRawPeer(t, settings, script).Address))
	}
	b := &limitBed{t: t, Sidecar: with(cfg).Start(t, enginetest.Setup{}), peers: peers}
	b.Set(peers...)
	b.second = enginetest.Dial(t, b.Address)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	b.held = enginetest.Open(t, at(ctx, "echo"), b.second)
	b.stands()
	return b
}

// add puts one more peer in force.
func (b *limitBed) add(id, address string) {
	b.peers = append(b.peers, enginetest.Instance(id, address))
	b.Set(b.peers...)
}

// unread gives a client that calls a peer and reads nothing of what comes, beyond what the kernel takes for it.
func (b *limitBed) unread(peer string) *idleClient {
	b.t.Helper()
	raw, err := dialFlat("tcp", b.Address)
	enginetest.Must(b.t, err)
	b.t.Cleanup(func() { raw.nc.Close() })
	enginetest.Must(b.t, raw.nc.(*net.TCPConn).SetReadBuffer(4<<10))
	raw.blocks = flatEncode(flatFields(":method", "POST", ":scheme", "http", ":path", enginetest.Method, ":authority", "x",
		"content-type", "application/grpc", "te", "trailers", "fly-force-instance-id", peer))[0]
	return &idleClient{flatClient: raw}
}

// at pins a call to a peer.
func at(ctx context.Context, peer string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", peer)
}

// stands checks that the second client's open call goes on.
func (b *limitBed) stands() {
	b.t.Helper()
	m := enginetest.Message("still there")
	enginetest.Must(b.t, b.held.SendMsg(&m))
	var got enginetest.Message
	enginetest.Must(b.t, b.held.RecvMsg(&got))
	if string(got) != string(m) {
		b.t.Errorf("the second client sent %q and got %q", m, got)
	}
}

// unharmed checks that the second client's open call goes on, and that a new one of its passes.
func (b *limitBed) unharmed() {
	b.t.Helper()
	b.stands()
	b.passes(b.second)
}

// passes checks that a client's call passes.
func (b *limitBed) passes(cc *grpc.ClientConn) {
	b.t.Helper()
	if got, err := enginetest.Unary(at(enginetest.Context(b.t), "echo"), cc, "x"); err != nil || got != "x" {
		b.t.Errorf("a call within the limits gets %q, %v", got, err)
	}
}

// hits is how often a limit was hit so far.
func (b *limitBed) hits(key string) uint64 { return b.Engine.Stats().Limits[key] }

// over checks, when a limit was hit and everything has ended, that it alone was counted, that the second client has not suffered,
// that a new client is served, and that nothing is left.
func (b *limitBed) over(key string, hits uint64) {
	b.t.Helper()
	b.unharmed()
	b.passes(enginetest.Dial(b.t, b.Address))
	enginetest.End(b.t, b.held)
	b.Quiet()
	for name, n := range b.Engine.Stats().Limits {
		if want := map[bool]uint64{true: hits}[name == key]; n != want {
			b.t.Errorf("%s was counted %d times, want %d", name, n, want)
		}
	}
}

// peak is the most that the engine has held while f ran.
func (b *limitBed) peak(f func()) (buffered, replay int64) {
	over, sampled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for {
			st := b.Engine.Stats()
			buffered, replay = max(buffered, st.BufferedBytes), max(replay, st.ReplayBytes)
			select {
			case <-tick.C:
			case <-over:
				return
			}
		}
	}()
	f()
	close(over)
	<-sampled
	return buffered, replay
}

// request opens a call to a peer.
func request(c *enginetest.RawConn, stream uint32, end bool, peer string, fields ...string) {
	c.Request(stream, end, append([]string{"fly-force-instance-id", peer}, fields...)...)
}

// echoes makes a whole call on a client's connection.
func (b *limitBed) echoes(c *enginetest.RawConn, stream uint32) {
	b.t.Helper()
	request(c, stream, false, "echo")
	c.Message(stream, 0, "x")
	enginetest.Must(b.t, c.Framer.WriteData(stream, true, nil))
	b.ends(c, stream, "0", "", "")
}

// ends checks that a call of a client ends with a status, or the code of its RST_STREAM, and that the message names a limit and its
// value.
func (b *limitBed) ends(c *enginetest.RawConn, stream uint32, code, key, value string) {
	b.t.Helper()
	got, message := result(c, stream)
	if got != code {
		b.t.Fatalf("the call on stream %d ends with %s %q, want %s", stream, got, message, code)
	}
	if key != "" {
		names(b.t, message, key, value)
	}
}

// result reads until a stream has ended.
func result(c *enginetest.RawConn, stream uint32) (code, message string) {
	for {
		switch f := c.Frame().(type) {
		case nil:
			return "the loss of its connection", ""
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return f.ErrCode.String(), ""
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream && f.StreamEnded() {
				return strings.Join(enginetest.Values(f, "grpc-status"), ""), strings.Join(enginetest.Values(f, "grpc-message"), "")
			}
		}
	}
}

// holds tells whether so many octets of so many calls are held, and nothing else but the trailers that may wait behind them.
func (b *limitBed) holds(octets, calls int) bool {
	const trailers = 52 // grpc-status: its strings, and the field itself
	held := b.Engine.Stats().BufferedBytes
	return held >= int64(octets) && held <= int64(octets+calls*trailers)
}

// names checks that a text names a limit as the configuration does, and its value.
func names(t *testing.T, text, key, value string) {
	t.Helper()
	if _, rest, ok := strings.Cut(text, "limits."+key); !ok || !strings.Contains(rest, value) {
		t.Errorf("%q does not say that limits.%s is %s", text, key, value)
	}
}

// toldToGo reads until a GOAWAY, and checks its code and that it names a limit and its value.
func toldToGo(t *testing.T, c *enginetest.RawConn, code http2.ErrCode, key, value string) *http2.GoAwayFrame {
	t.Helper()
	for {
		switch f := c.Frame().(type) {
		case nil:
			t.Fatal("the connection ends without GOAWAY")
		case *http2.GoAwayFrame:
			if f.ErrCode != code {
				t.Errorf("GOAWAY has %v, want %v", f.ErrCode, code)
			}
			names(t, string(f.DebugData()), key, value)
			return f
		}
	}
}

// streams is how many calls a peer has.
func (b *limitBed) streams(peer string) int {
	for _, p := range b.Engine.Stats().Peers {
		if p.Key.ID == peer {
			return p.Streams
		}
	}
	return 0
}

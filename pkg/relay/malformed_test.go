package relay_test

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// HEADERS that make their stream depend on itself are that stream's error (RFC 7540 §5.3.1), whatever follows them.
func TestSelfDependencyIsAStreamsError(t *testing.T) {
	enginetest.CheckLeaks(t)
	s, c := subject.RawPair(t, enginetest.AnswerAll("x"))
	for i, split := range []bool{false, true} {
		id := uint32(4*i + 1)
		enginetest.Must(t, c.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x83, 0x86, 0x84},
			EndHeaders: !split, Priority: http2.PriorityParam{StreamDep: id, Weight: 1}}))
		if split {
			enginetest.Must(t, c.Framer.WriteContinuation(id, true, nil))
		} else {
			enginetest.Must(t, c.Framer.WriteData(id, true, []byte("x")))
		}
		f, ok := c.Frame().(*http2.RSTStreamFrame)
		if !ok || f.StreamID != id || f.ErrCode != http2.ErrCodeProtocol {
			t.Fatalf("split %v: %v came", split, f)
		}
		c.Request(id+2, true)
		if code, why := c.Result(); code != "0" {
			t.Errorf("split %v: the next call ended with %s %q", split, code, why)
		}
	}
	s.Quiet()
}

// A client that has connected and said nothing when the sidecar ends is not told GOAWAY in front of SETTINGS (RFC 9113 §3.4), and holds
// nothing up.
func TestDrainBeforeTheClientsPreface(t *testing.T) {
	enginetest.CheckLeaks(t)
	s := subject.Start(t, enginetest.Setup{})
	silent, late := dialTCP(t, s.Address), dialTCP(t, s.Address)
	enginetest.Eventually(t, "both are there", func() bool { return s.Engine.Stats().Clients == 2 })
	drained := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), enginetest.Patience)
	defer cancel()
	go func() { drained <- s.Engine.Drain(ctx) }()
	enginetest.Eventually(t, "nobody is accepted", func() bool {
		nc, err := net.DialTimeout("tcp", s.Address, time.Second)
		if err == nil {
			_ = nc.Close()
		}
		return err != nil
	})
	_, err := late.Write([]byte(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	enginetest.Must(t, err)
	for want := http2.FrameSettings; ; want = http2.FrameGoAway {
		f, err := http2.NewFramer(nil, late).ReadFrame()
		enginetest.Must(t, err)
		if f.Header().Type == http2.FrameGoAway && want == http2.FrameGoAway {
			break
		}
		if want == http2.FrameSettings && f.Header().Type != want {
			t.Fatalf("%v came where SETTINGS were due", f)
		}
	}
	if f, err := http2.NewFramer(nil, silent).ReadFrame(); err == nil && f.Header().Type != http2.FrameSettings {
		t.Errorf("the first frame is %v", f)
	}
	_ = late.Close()
	enginetest.Must(t, enginetest.Receive(t, drained))
}

func dialTCP(t testing.TB, address string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	enginetest.Must(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	return nc
}

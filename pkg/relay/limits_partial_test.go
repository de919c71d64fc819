package relay_test

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// A frame of which all but an octet has come takes little more than its own size.
func TestPartialFramesTakeLittleMore(t *testing.T) {
	const clients, frame = 100, 9 + 16384
	b := newLimitBed(t, relay.Config{}, nil)
	var conns []*flatClient
	for range clients {
		c, err := dialFlat("tcp", b.Address)
		enginetest.Must(t, err)
		t.Cleanup(func() { c.nc.Close() })
		enginetest.Must(t, c.calls(1))
		conns = append(conns, c)
	}
	before := flatSizeNow()
	part := appendFlat(nil, http2.FrameData, 0, 1, make([]byte, 16384))[:frame-1]
	for _, c := range conns {
		_, err := c.nc.Write(append(appendFlat(nil, http2.FramePing, 0, 0, make([]byte, 8)), part...))
		enginetest.Must(t, err)
	}
	for _, c := range conns { // the answer tells that what was written with the PING is there, too
		f, err := c.next()
		for err == nil && f.typ != http2.FramePing {
			f, err = c.next()
		}
		enginetest.Must(t, err)
	}
	var grown int64
	t.Cleanup(func() { t.Logf("%d octets more for each client", grown) })
	enginetest.Eventually(t, "what has come takes little more than its size", func() bool {
		grown = (int64(flatSizeNow().live) - int64(before.live)) / clients
		return grown >= frame/2 && grown <= 24<<10
	})
}

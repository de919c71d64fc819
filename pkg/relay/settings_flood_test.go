package relay_test

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// A client with many streams that changes its initial window over and over holds no lock for long: another client's calls to the same
// peer go on. (Once each change went through all streams: 64 KiB of SETTINGS held others up for seconds.)
func TestSettingsFloodHoldsNobodyUp(t *testing.T) {
	enginetest.CheckLeaks(t)
	const streams, frames, settings = 16000, 4, 2730
	raw := enginetest.StartRawPeer(t, nil, func(c *enginetest.RawConn) {
		flooder := uint32(0)
		for h := c.Next(); h != nil; h = c.Next() {
			switch {
			case len(enginetest.Values(h, "victim")) > 0:
				c.Message(flooder, 0, "x") // so that both clients' connections are in the same batch
				c.Answer(h.StreamID, "x")
			case flooder == 0:
				flooder = h.StreamID
				c.Respond(flooder)
			}
		}
	})
	s := subject.Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("a", raw.Address))
	victim := enginetest.DialRaw(t, s.Address)
	id := uint32(1)
	call := func() time.Duration {
		began := time.Now()
		victim.Request(id, true, "victim", "yes")
		id += 2
		if code, why := victim.Result(); code != "0" {
			t.Fatalf("a call ended with %s %q", code, why)
		}
		return time.Since(began)
	}
	c := enginetest.DialRaw(t, s.Address)
	go func() {
		for err := error(nil); err == nil; _, err = c.Framer.ReadFrame() { // nothing is answered, so that this goroutine alone writes
		}
	}()
	for i := range streams {
		c.Request(uint32(2*i+1), false)
	}
	enginetest.Eventually(t, "all are open", func() bool { return s.Engine.Stats().InFlight == streams })
	call()
	p := make([]byte, 0, 6*settings)
	for i := range settings {
		p = binary.BigEndian.AppendUint16(p, uint16(http2.SettingInitialWindowSize))
		p = binary.BigEndian.AppendUint32(p, uint32(65535+i%2))
	}
	for range frames {
		enginetest.Must(t, c.Framer.WriteRawFrame(http2.FrameSettings, 0, 0, p))
	}
	worst := time.Duration(0)
	for range 20 {
		worst = max(worst, call())
	}
	t.Logf("another client's slowest call took %v", worst)
	if worst > 2*time.Second {
		t.Errorf("another client waited %v", worst)
	}
}

package relay_test

import (
	"runtime"
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// A peer that answers UNAVAILABLE has answered: its connection was of use, and when it then asks us to leave, it is not backed off as
// one that hangs up on everybody. Whether the call is repeated makes no difference.
func TestPeerThatIsRepeatedElsewhereHasAnswered(t *testing.T) {
	for name, cfg := range map[string]relay.Config{"repeated": safe(relay.Retry{}), "not": {}} {
		t.Run(name, func(t *testing.T) {
			enginetest.CheckLeaks(t)
			left := make(chan struct{}, 1)
			a := enginetest.Instance("a", enginetest.StartRawPeer(t, nil, func(c *enginetest.RawConn) {
				if h := c.Next(); h != nil {
					c.Headers(h.StreamID, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "14")
					_ = c.Framer.WriteGoAway(h.StreamID, http2.ErrCodeNo, nil)
					c.Drain()
					enginetest.Offer(left, struct{}{})
				}
			}).Address)
			p := &cast{t: t}
			s := with(cfg).Start(t, enginetest.Setup{})
			s.Set(a, p.peer("b", once(ok)))
			client := enginetest.DialRaw(t, s.Address)
			ended := make(map[string]int)
			for id := uint32(1); id <= 3; id += 2 { // in turn: one begins with each peer
				ask(client, id, enginetest.Method)
				code, _ := client.Result()
				ended[code]++
			}
			if want := map[string]int{"repeated": 2, "not": 1}[name]; ended["0"] != want {
				t.Errorf("the calls ended with %v", ended)
			}
			enginetest.Receive(t, left)
			if st := s.Router.Peers()[registry.Key{Service: "app", ID: "a"}]; st.BackedOff || st.InFlight != 0 {
				t.Errorf("the router has %+v of the peer that has answered", st)
			}
			s.Quiet()
		})
	}
}

// A server may ask for a pause of hours. A call that was cancelled in it holds nothing until then.
func TestCancelledPauseHoldsNothing(t *testing.T) {
	enginetest.CheckLeaks(t)
	const calls = 4000
	s := with(safe(relay.Retry{Budget: 1, Attempts: 2})).Start(t, enginetest.Setup{})
	s.Set(enginetest.Instance("a", enginetest.StartRawPeer(t, nil, func(c *enginetest.RawConn) {
		for h := c.Next(); h != nil; h = c.Next() {
			c.Headers(h.StreamID, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "14", pushback, "3600000")
		}
	}).Address))
	client := enginetest.DialRaw(t, s.Address)
	before := heap()
	for i := range uint32(calls) {
		ask(client, 2*i+1, enginetest.Method)
	}
	enginetest.Eventually(t, "all calls pause", func() bool {
		st := s.Engine.Stats()
		return st.InFlight == calls && st.Peers[0].Streams == 0
	})
	pausing := heap()
	for i := range uint32(calls) {
		enginetest.Must(t, client.Framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	s.Quiet()
	after := heap()
	t.Logf("%d KiB in the pause, %d KiB after it", (pausing-before)>>10, (after-before)>>10)
	if after-before > (pausing-before)/4 {
		t.Errorf("of %d octets that the calls held %d are left", pausing-before, after-before)
	}
}

// heap is how much of the heap is in use once what is not has been collected.
func heap() int64 {
	runtime.GC()
	runtime.GC() // also what pools had
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

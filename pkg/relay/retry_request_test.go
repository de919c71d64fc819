package relay_test

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// after asks a script once so much of the request has come.
func after(n int, f script) script {
	return func(g *got) act {
		if len(g.body) < n {
			return waits
		}
		return f(g)
	}
}

// A retry has all of the request: what the client sent before the first peer's answer, during the pause, and after it.
func TestRetryHasTheWholeRequest(t *testing.T) {
	const before, pausing, later = 20000, 9000, 30000
	body := random(before + pausing + later)
	for name, how := range map[string]struct {
		first script
		// told is how the first peer learns that the rest is not for it.
		told func(*got) bool
	}{
		"answered": {after(before, unavailable(pushback, "300")), (*got).wasReset},
		"lost":     {after(before, hangUp), func(*got) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			s, p, client := staged(t, safe(relay.Retry{}), 2, firstly(how.first, once(ok)))
			client.Request(1, false)
			send(t, client, 1, body[:before], false)
			if name == "answered" {
				awaitPause(t, s, p)
			}
			send(t, client, 1, body[before:before+pausing], false)
			p.await(2, func(g *got) bool { return len(g.body) == before+pausing })
			enginetest.Eventually(t, "the first peer is told that the rest is not for it", func() bool { return how.told(&p.calls()[0]) })
			send(t, client, 1, body[before+pausing:], true)
			if code, message := client.Result(); code != "0" {
				t.Errorf("the client got %s %s", code, message)
			}
			if all := p.calls(); !bytes.Equal(all[1].body, body) || all[1].peer == all[0].peer {
				t.Errorf("%s has another request than the client sent, in %d octets", all[1].peer, len(all[1].body))
			}
			s.Quiet()
		})
	}
}

// The same where the client had ended its side already; then there is nothing to tell the first peer.
func TestRetryHasTheEndOfTheRequest(t *testing.T) {
	for _, size := range []int{0, 1, 40000} {
		body := random(size)
		s, p, client := staged(t, safe(relay.Retry{}), 2, firstly(once(unavailable()), once(ok)))
		client.Request(1, false)
		send(t, client, 1, body, true)
		if code, message := client.Result(); code != "0" {
			t.Errorf("the client got %s %s", code, message)
		}
		all := p.calls()
		if len(all) != 2 {
			t.Fatalf("the peers had %d calls", len(all))
		}
		if !bytes.Equal(all[1].body, body) || !all[1].end {
			t.Errorf("of %d octets the second peer has %d", size, len(all[1].body))
		}
		if all[0].reset != nil {
			t.Errorf("the first peer got RST_STREAM(%v) on a stream that was over", *all[0].reset)
		}
		s.Quiet()
	}
}

// Beyond what is kept of a request there is nothing to repeat it with: its client gets the peer's answer as it is.
func TestLargeRequestIsNotRepeated(t *testing.T) {
	for _, c := range []struct {
		size     int
		repeated bool
	}{{64 << 10, true}, {64<<10 + 1, false}, {200000, false}} {
		s, p, client := staged(t, safe(relay.Retry{}), 2, firstly(once(unavailable("k", "v")), once(ok)))
		client.Request(1, false)
		upload(t, client, 1, random(c.size), true)
		if h := client.Next(); c.repeated {
			if v := enginetest.Values(h, "k"); v != nil {
				t.Errorf("of %d octets: the client got the first peer's answer", c.size)
			}
		} else {
			wantOwn(t, h)
		}
		if n := len(p.calls()); n != 1 && !c.repeated {
			t.Errorf("of %d octets: the peers had %d calls", c.size, n)
		}
		s.Quiet()
	}
}

// upload sends DATA as the stream's window allows. The client's connection has no other stream that is open.
func upload(t *testing.T, c *enginetest.RawConn, stream uint32, body []byte, end bool) {
	t.Helper()
	ping(t, c) // so that the engine's SETTINGS have come
	window := 64 << 10
	for len(body) > 0 {
		for window == 0 {
			f, err := c.Framer.ReadFrame()
			enginetest.Must(t, err)
			switch f := f.(type) {
			case *http2.WindowUpdateFrame:
				if f.StreamID == stream {
					window += int(f.Increment)
				}
			case *http2.PingFrame:
				enginetest.Must(t, c.Framer.WritePing(true, f.Data))
			case *http2.RSTStreamFrame, *http2.MetaHeadersFrame:
				t.Fatalf("the call ended after %d octets were left: %v", len(body), f)
			}
		}
		n := min(len(body), window, 16<<10)
		enginetest.Must(t, c.Framer.WriteData(stream, false, body[:n]))
		window -= n
		body = body[n:]
	}
	if end {
		enginetest.Must(t, c.Framer.WriteData(stream, true, nil))
	}
}

package relay_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// leaves says that no call from this one on was processed.
func leaves(g *got) act {
	_ = g.Framer.WriteGoAway(g.id-1, http2.ErrCodeNo, nil)
	return answered
}

// unread is a peer that grants all windows, lets a first call come and then reads nothing until it is to hang up.
func unread(c *enginetest.RawConn, hangUp <-chan struct{}) {
	_ = c.Framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	_ = c.Framer.WriteWindowUpdate(0, 1<<31-1-65535)
	if c.Next() != nil {
		c.Wait(hangUp)
	}
}

// sizes are those around what is kept of a call.
var sizes = []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1}

// tooLarge tells whether a call of so many octets is not replayed.
func tooLarge(size int) bool { return size > 64<<10 }

// movedRequest is a call of a given size, which its first peer has in whole and then turns away.
type movedRequest struct {
	s      *enginetest.Sidecar
	p      *cast
	client *enginetest.RawConn
	body   []byte
	end    bool // the client has ended its side
}

// check awaits what becomes of the call once it was turned away: the second peer has it as if it were the first, or, when it is too
// large, the client a status that says so, and never REFUSED_STREAM, with which it might send the call again itself.
func (m *movedRequest) check(t *testing.T, reason string) {
	t.Helper()
	if tooLarge(len(m.body)) {
		code, message := m.client.Result()
		if code != "14" || !strings.Contains(message, "too large") {
			t.Errorf("the client got %s %s, want UNAVAILABLE that says that the call was too large", code, message)
		}
		wantRetries(t, m.s, nil)
	} else {
		if !m.end {
			send(t, m.client, 1, nil, true)
		}
		if code, message := m.client.Result(); code != "0" {
			t.Errorf("the client got %s %s", code, message)
		}
		wantRetries(t, m.s, map[string]uint64{reason: 1})
	}
	m.s.Quiet()
	var second []got
	for _, g := range m.p.calls() {
		if g.peer == "b" {
			second = append(second, g)
		}
	}
	switch {
	case tooLarge(len(m.body)) && len(second) == 0:
	case tooLarge(len(m.body)) || len(second) != 1:
		t.Errorf("the second peer had %d calls", len(second))
	case !bytes.Equal(second[0].body, m.body):
		t.Errorf("the second peer has another request than the client sent, in %d octets", len(second[0].body))
	case second[0].value("grpc-previous-rpc-attempts") != "-":
		t.Errorf("the second peer was told of %s earlier attempts", second[0].value("grpc-previous-rpc-attempts"))
	}
}

// A call that its peer has turned away goes to another with its DATA, octet for octet, unseen on either side.
func TestTurnedAwayCallIsReplayed(t *testing.T) {
	for reason, away := range map[string]script{"unprocessed": leaves, "refused": refuses} {
		for _, size := range sizes {
			for _, end := range []bool{true, false} {
				t.Run(fmt.Sprint(reason, " ", size, " ", end), func(t *testing.T) {
					enginetest.CheckLeaks(t)
					m := &movedRequest{p: &cast{t: t}, body: random(size), end: end}
					m.s = subject.Start(t, enginetest.Setup{})
					turn := make(chan struct{})
					b := m.p.peer("b", once(ok))
					a := m.p.peer("a", func(g *got) act {
						if len(g.body) < size || g.end != end {
							return waits
						}
						g.Wait(turn)
						return away(g)
					})
					m.s.Set(a)
					m.client = enginetest.DialRaw(t, m.s.Address)
					m.client.Request(1, false)
					upload(t, m.client, 1, m.body, end)
					m.p.await(1, func(g *got) bool { return len(g.body) == size && g.end == end })
					m.s.Set(a, b)
					close(turn)
					m.check(t, reason)
				})
			}
		}
	}
}

// A call that was never written to its peer's connection is not lost with it, whatever else was.
func TestUnwrittenCallIsReplayed(t *testing.T) {
	for _, size := range sizes {
		for _, end := range []bool{true, false} {
			t.Run(fmt.Sprint(size, " ", end), func(t *testing.T) {
				enginetest.CheckLeaks(t)
				m := &movedRequest{p: &cast{t: t}, body: random(size), end: end}
				m.s = subject.Start(t, enginetest.Setup{Options: enginetest.Options{MaxConnectionsPerPeer: 1}})
				hangUp := make(chan struct{})
				a := enginetest.Instance("a", enginetest.StartRawPeer(t, nil, func(c *enginetest.RawConn) { unread(c, hangUp) }).Address)
				b := m.p.peer("b", once(ok))
				m.s.Set(a)
				blocks := enginetest.Open(t, enginetest.Context(t), enginetest.Dial(t, m.s.Address))
				stuck(t, m.s, blocks.SendMsg)
				m.client = enginetest.DialRaw(t, m.s.Address)
				m.client.Request(1, false)
				upload(t, m.client, 1, m.body, end)
				ping(t, m.client) // the engine has all of it
				enginetest.Eventually(t, "the call is with the peer", func() bool { return m.s.Engine.Stats().Peers[0].Streams == 2 })
				m.s.Set(a, b)
				close(hangUp)
				if err := blocks.RecvMsg(new(enginetest.Message)); err == nil || !strings.Contains(err.Error(), "peer lost") {
					t.Errorf("the call that was written ended with %v", err)
				}
				m.check(t, "not_sent")
			})
		}
	}
}

// stuck sends until a peer's socket takes no more.
func stuck(t *testing.T, s *enginetest.Sidecar, sendMsg func(any) error) {
	t.Helper()
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		m := enginetest.Message(strings.Repeat("x", 32<<10))
		for sendMsg(&m) == nil {
		}
	}()
	var held int64
	var since time.Time
	enginetest.Eventually(t, "the peer's socket is full", func() bool {
		if n := s.Engine.Stats().BufferedBytes; n != held || n == 0 {
			held, since = n, time.Now()
		}
		return held > 0 && time.Since(since) > 200*time.Millisecond
	})
}

// What is kept for replays is bounded in total. Beyond the bound calls are served as ever, but are not replayed.
func TestReplayBytesBoundTheReplays(t *testing.T) {
	enginetest.CheckLeaks(t)
	const size, fit, calls = 10000, 3, 8
	p := &cast{t: t}
	s := with(relay.Config{Limits: relay.Limits{ReplayBytes: fit*size + size/2}}).Start(t, enginetest.Setup{})
	turn := make(chan struct{})
	var had []*got
	a := p.peer("a", once(func(g *got) act {
		if had = append(had, g); len(had) == calls {
			g.Wait(turn)
			ok(g)
			for _, g := range had[:calls-1] {
				refuses(g)
			}
		}
		return answered
	}))
	s.Set(a)
	client := enginetest.DialRaw(t, s.Address)
	bodies := make(map[string][]byte)
	for i := range calls {
		id := uint32(2*i + 1)
		name := fmt.Sprint(i)
		bodies[name] = random(size)
		client.Request(id, false, "name", name)
		upload(t, client, id, bodies[name], true)
		ping(t, client) // the engine has all of it
		if n := s.Engine.Stats().ReplayBytes; n > fit*size+size/2 {
			t.Errorf("%d octets are held", n)
		}
	}
	if st := s.Engine.Stats(); st.ReplayBytes != fit*size || st.Limits["max_replay_bytes"] != calls-fit {
		t.Errorf("%d octets are held, and the limit was hit %d times", st.ReplayBytes, st.Limits["max_replay_bytes"])
	}
	s.Set(a, p.peer("b", once(ok)))
	close(turn)
	ended := map[string]int{}
	for range calls {
		code, _ := client.Result()
		ended[code]++
	}
	if ended["0"] != fit+1 || ended["14"] != calls-fit-1 {
		t.Errorf("the calls ended with %v, want %d OK and the others UNAVAILABLE", ended, fit+1)
	}
	wantRetries(t, s, map[string]uint64{"refused": fit})
	for _, g := range p.calls() {
		if g.peer == "b" && !bytes.Equal(g.body, bodies[g.value("name")]) {
			t.Errorf("call %s has another request than the client sent", g.value("name"))
		}
	}
	s.Quiet()
}

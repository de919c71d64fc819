package relay_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// A call that all peers refuse comes back to each of them three times, and then ends with a status of the sidecar's own. The peers'
// REFUSED_STREAM would say to the client that it may send the call again unseen.
func TestReturnsToRefusingPeersAreBounded(t *testing.T) {
	for _, peers := range []int{1, 2, 5} {
		s, p, client := staged(t, relay.Config{}, peers, once(refuses))
		client.Request(1, false)
		send(t, client, 1, random(1000), true)
		if code, message := client.Result(); code != "14" || !strings.Contains(message, "did not process the call") {
			t.Errorf("%d peers: the client got %s %s", peers, code, message)
		}
		each := make(map[string]int)
		for _, g := range p.calls() {
			each[g.peer]++
			if len(g.body) != 1000 || g.value("grpc-previous-rpc-attempts") != "-" {
				t.Errorf("a peer has %d octets, and was told of %s attempts", len(g.body), g.value("grpc-previous-rpc-attempts"))
			}
		}
		for peer, n := range each {
			if n != 4 {
				t.Errorf("%s of %d peers had the call %d times, want 4", peer, peers, n)
			}
		}
		wantRetries(t, s, map[string]uint64{"refused": uint64(4*peers - 1)})
		s.Quiet()
	}
}

// The deadline holds while a call goes from peer to peer: the time that the first has used the second is not told of, and when it
// passes the call ends wherever it is.
func TestDeadlineHoldsDuringTheMove(t *testing.T) {
	const timeout, used = 1500 * time.Millisecond, 300 * time.Millisecond
	s, p, client := staged(t, relay.Config{}, 2, firstly(func(g *got) act {
		timer := time.NewTimer(used) // a peer that takes its time to refuse
		<-timer.C
		return refuses(g)
	}, hold))
	began := time.Now()
	ask(client, 1, enginetest.Method, "grpc-timeout", "1500m")
	if code, message := client.Result(); code != "4" {
		t.Errorf("the client got %s %s, want DEADLINE_EXCEEDED", code, message)
	}
	if took := time.Since(began); took < timeout {
		t.Errorf("the deadline of %v passed after %v", timeout, took)
	}
	all := p.await(2, (*got).wasReset)
	if d := all[1].left(t); d > timeout-used {
		t.Errorf("the second peer was told %v of %v, of which the first had used %v", d, timeout, used)
	}
	if code := *all[1].reset; code != http2.ErrCodeCancel {
		t.Errorf("the second peer got RST_STREAM(%v)", code)
	}
	wantRetries(t, s, map[string]uint64{"refused": 1})
	s.Quiet()
}

// A call that was refused and now waits for a peer with room ends by its deadline too, and what was kept of it goes.
func TestDeadlineHoldsWhileAMovedCallWaits(t *testing.T) {
	enginetest.CheckLeaks(t)
	p := &cast{t: t}
	s := subject.Start(t, enginetest.Setup{Options: enginetest.Options{MaxConnectionsPerPeer: 1}})
	turn := make(chan struct{})
	a := p.peer("a", once(func(g *got) act {
		g.Wait(turn)
		return refuses(g)
	}))
	full := p.peer("full", hold, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
	s.Set(a)
	client := enginetest.DialRaw(t, s.Address)
	began := time.Now()
	client.Request(1, false, "grpc-timeout", "700m")
	send(t, client, 1, random(5000), true)
	p.await(1, (*got).whole)
	s.Set(full)
	close(turn)
	s.AwaitWaiting(1)
	if n := s.Engine.Stats().ReplayBytes; n != 5000 {
		t.Errorf("%d octets are held of the call that waits", n)
	}
	if code, message := client.Result(); code != "4" {
		t.Errorf("the client got %s %s, want DEADLINE_EXCEEDED", code, message)
	}
	if took := time.Since(began); took < 700*time.Millisecond {
		t.Errorf("the deadline of 700 ms passed after %v", took)
	}
	s.Quiet()
}

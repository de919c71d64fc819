package relay_test

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// safe names the suite's method as one that may be called again.
func safe(r relay.Retry) relay.Config {
	r.Methods = []string{enginetest.Method}
	return relay.Config{Retry: r}
}

// staged is a sidecar with that configuration and so many scripted peers of one script, named a, b, c…, and a scripted client.
func staged(t *testing.T, cfg relay.Config, peers int, s script) (*enginetest.Sidecar, *cast, *enginetest.RawConn) {
	t.Helper()
	enginetest.CheckLeaks(t)
	p := &cast{t: t}
	side := with(cfg).Start(t, enginetest.Setup{})
	in := make([]registry.Instance, 0, peers)
	for i := range peers {
		in = append(in, p.peer(string(rune('a'+i)), s))
	}
	side.Set(in...)
	return side, p, enginetest.DialRaw(t, side.Address)
}

// Methods are named in full, or all of a service; nothing is safe by being named alike.
func TestOnlyNamedMethodsAreRepeated(t *testing.T) {
	for _, c := range []struct {
		named    string
		called   string
		repeated bool
	}{
		{"", "/test.Test/Call", false},
		{"/test.Test/Call", "/test.Test/Call", true},
		{"/test.Test/Call", "/test.Test/Call2", false},
		{"/test.Test/Call", "/test.Test/Cal", false},
		{"/test.Test/Call", "/test.Test/call", false},
		{"/test.Test/Call", "/test.Test/Call/", false},
		{"/test.Test/*", "/test.Test/Call", true},
		{"/test.Test/*", "/test.Test/", true},
		{"/test.Test/*", "/test.Test2/Call", false},
		{"/test.Test/*", "/test.Test/Call/More", false},
		{"/test.Test/*", "/more/test.Test/Call", false},
		{"/test.Test/*", "/test.Test", false},
		{"/test.Test/*", "/", false},
		{"/test.Test/*", "*", false},
		{"/*", "/test.Test/Call", false},
	} {
		t.Run(c.named+" "+c.called, func(t *testing.T) {
			var cfg relay.Config
			if c.named != "" {
				cfg.Retry.Methods = []string{"/other.Other/Call", c.named}
			}
			s, p, client := staged(t, cfg, 2, firstly(unavailable(), ok))
			ask(client, 1, c.called)
			want, calls := "14", 1
			if c.repeated {
				want, calls = "0", 2
			}
			if code, message := client.Result(); code != want {
				t.Errorf("the client got %s %s, want %s", code, message, want)
			}
			if n := len(p.calls()); n != calls {
				t.Errorf("the peers had %d calls, want %d", n, calls)
			}
			wantRetries(t, s, map[string]uint64{"policy": uint64(calls - 1)})
			s.Quiet()
		})
	}
}

// headersThen answers with response headers, and then so.
func headersThen(then script) script {
	return func(g *got) act {
		g.Respond(g.id)
		return then(g)
	}
}

func answersStatus(code int) script {
	return func(g *got) act {
		g.Headers(g.id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", fmt.Sprint(code))
		return answered
	}
}

func resets(code http2.ErrCode) script {
	return func(g *got) act {
		_ = g.Framer.WriteRSTStream(g.id, code)
		return answered
	}
}

func hangUp(*got) act { return hangsUp }

// A call of a named method is repeated only when its peer answers UNAVAILABLE without response headers, or is lost before it answers.
// Everything else is the client's to see.
func TestOnlyUnansweredCallsAreRepeated(t *testing.T) {
	type answer struct {
		name string
		s    script
		want string // what the client gets; empty: the call is repeated
	}
	all := []answer{
		{"UNAVAILABLE at once", unavailable(), ""},
		{"lost before headers", hangUp, ""},
		{"interim response, then UNAVAILABLE", func(g *got) act {
			g.Headers(g.id, false, ":status", "103", "link", "x")
			return unavailable()(g)
		}, ""},
		{"headers, then UNAVAILABLE", headersThen(func(g *got) act {
			g.Headers(g.id, true, "grpc-status", "14")
			return answered
		}), "14"},
		{"headers, a message, then UNAVAILABLE", headersThen(func(g *got) act {
			g.Message(g.id, 0, "x")
			g.Headers(g.id, true, "grpc-status", "14")
			return answered
		}), "14"},
		{"headers, then lost", headersThen(hangUp), "14"},
		{"headers, then reset", headersThen(resets(http2.ErrCodeInternal)), http2.ErrCodeInternal.String()},
		{"reset INTERNAL_ERROR", resets(http2.ErrCodeInternal), http2.ErrCodeInternal.String()},
		{"reset CANCEL", resets(http2.ErrCodeCancel), http2.ErrCodeCancel.String()},
		{"no status", func(g *got) act {
			g.Headers(g.id, true, ":status", "200", "content-type", "application/grpc")
			return answered
		}, "none"},
		{"HTTP 503", func(g *got) act {
			g.Headers(g.id, true, ":status", "503")
			return answered
		}, "none"},
	}
	for code := range 20 {
		if code != 14 {
			all = append(all, answer{fmt.Sprint("status ", code), answersStatus(code), fmt.Sprint(code)})
		}
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			s, p, client := staged(t, safe(relay.Retry{}), 2, firstly(c.s, ok))
			ask(client, 1, enginetest.Method)
			want, calls := c.want, 1
			if want == "" {
				want, calls = "0", 2
			}
			if got := outcome(client); got != want {
				t.Errorf("the client got %s, want %s", got, want)
			}
			if n := len(p.calls()); n != calls {
				t.Errorf("the peers had %d calls, want %d", n, calls)
			}
			wantRetries(t, s, map[string]uint64{"policy": uint64(calls - 1)})
			s.Quiet()
		})
	}
}

// outcome is Result, but knows of responses that end without a status.
func outcome(c *enginetest.RawConn) string {
	for {
		switch f := c.Frame().(type) {
		case nil:
			return "connection lost"
		case *http2.RSTStreamFrame:
			return f.ErrCode.String()
		case *http2.MetaHeadersFrame:
			if v := enginetest.Values(f, "grpc-status"); len(v) > 0 {
				return v[0]
			}
			if f.StreamEnded() {
				return "none"
			}
		}
	}
}

// A retry goes to a peer that the call has not had, as long as there is one, and in all to no more than Attempts. The last peer's
// answer is the client's.
func TestAttemptsAreBounded(t *testing.T) {
	for _, c := range []struct{ peers, attempts, want int }{
		{4, 1, 1}, {4, 2, 2}, {4, 0, 3}, {4, 4, 4}, {2, 3, 3}, {1, 3, 3}, {1, 6, 6},
	} {
		t.Run(fmt.Sprintf("%d of %d peers", c.attempts, c.peers), func(t *testing.T) {
			s, p, client := staged(t, safe(relay.Retry{Attempts: c.attempts}), c.peers, unavailable("k", "v"))
			ask(client, 1, enginetest.Method)
			wantOwn(t, client.Next())
			var peers []string
			for i, g := range p.calls() {
				want := "-"
				if i > 0 {
					want = fmt.Sprint(i)
				}
				if v := g.value("grpc-previous-rpc-attempts"); v != want {
					t.Errorf("attempt %d has grpc-previous-rpc-attempts %s, want %s", i+1, v, want)
				}
				peers = append(peers, g.peer)
			}
			if len(peers) != c.want {
				t.Errorf("%d attempts were made, want %d", len(peers), c.want)
			}
			first := slices.Clone(peers[:min(len(peers), c.peers)])
			slices.Sort(first)
			if n := len(slices.Compact(first)); n != min(c.want, c.peers) {
				t.Errorf("the attempts went to %q: some peer had the call twice before another had it once", peers)
			}
			wantRetries(t, s, map[string]uint64{"policy": uint64(c.want - 1)})
			s.Quiet()
		})
	}
}

// wantOwn checks that a response is what unavailable("k", "v") has sent.
func wantOwn(t *testing.T, h *http2.MetaHeadersFrame) {
	t.Helper()
	if h == nil {
		t.Error("connection lost")
		return
	}
	var all []string
	for _, f := range h.Fields {
		all = append(all, f.Name, f.Value)
	}
	want := []string{":status", "200", "content-type", "application/grpc", "grpc-status", "14", "grpc-message", noThanks, "k", "v"}
	if !slices.Equal(all, want) || !h.StreamEnded() {
		t.Errorf("the client got %q (END_STREAM %v), the peer sent %q", all, h.StreamEnded(), want)
	}
}

// What the client itself has said of earlier attempts is added to, once for each retry.
func TestPreviousAttemptsOfClientGrow(t *testing.T) {
	s, p, client := staged(t, safe(relay.Retry{}), 3, unavailable())
	for i, said := range []string{"4", "0", "many"} {
		ask(client, uint32(2*i+1), enginetest.Method, "a", "b", "grpc-previous-rpc-attempts", said, "c", "d")
		if code, _ := client.Result(); code != "14" {
			t.Errorf("the client got %s", code)
		}
	}
	var all []string
	for _, g := range p.calls() {
		all = append(all, g.value("grpc-previous-rpc-attempts"))
	}
	if want := []string{"4", "5", "6", "0", "1", "2", "many", "1", "2"}; !slices.Equal(all, want) {
		t.Errorf("the peers got %q, want %q", all, want)
	}
	s.Quiet()
}

// A pin allows no other peer, so the retry goes to that one.
func TestPinnedCallIsRepeatedAtItsPeer(t *testing.T) {
	s, p, client := staged(t, safe(relay.Retry{}), 3, firstly(unavailable(), ok))
	ask(client, 1, enginetest.Method, "fly-force-instance-id", "b")
	if code, message := client.Result(); code != "0" {
		t.Errorf("the client got %s %s", code, message)
	}
	for _, g := range p.calls() {
		if g.peer != "b" {
			t.Errorf("the call went to %s", g.peer)
		}
	}
	s.Quiet()
}

// It is the call's own history that keeps a retry from the peer that it had, not the turn that the peers take: here that has moved on.
func TestRetryGoesToAnotherPeer(t *testing.T) {
	s, p, client := staged(t, safe(relay.Retry{}), 2, firstly(unavailable(pushback, "300"), ok))
	ask(client, 1, enginetest.Method)
	awaitPause(t, s, p)
	ask(client, 3, "/other.Other/Call")
	for range 2 {
		if code, message := client.Result(); code != "0" {
			t.Errorf("the client got %s %s", code, message)
		}
	}
	if all := p.calls(); len(all) != 3 || all[2].peer == all[0].peer {
		t.Errorf("the retry went to %s, which had the call", all[len(all)-1].peer)
	}
	s.Quiet()
}

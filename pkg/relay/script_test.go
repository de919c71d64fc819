package relay_test

import (
	"bytes"
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// got is a call as a scripted peer has it so far.
type got struct {
	*enginetest.RawConn
	peer   string
	id     uint32
	before int // how many calls the peers of the test had before this one
	at     time.Time
	fields *http2.MetaHeadersFrame
	body   []byte
	end    bool           // END_STREAM came
	reset  *http2.ErrCode // RST_STREAM came
	over   bool           // it was answered
}

// value is the value of the request's only field of that name; "-" when there is none.
func (g *got) value(name string) string {
	switch v := enginetest.Values(g.fields, name); len(v) {
	case 0:
		return "-"
	case 1:
		return v[0]
	default:
		return "several"
	}
}

// act is what a peer's script does next with a call.
type act uint8

const (
	waits    act = iota // there is more of the call to come
	answered            // the call is done with
	hangsUp             // the connection ends here
)

// script is asked for every frame of a call, headers first, until it has answered.
type script func(g *got) act

// once asks a script as soon as the request is whole.
func once(f script) script {
	return func(g *got) act {
		if !g.end {
			return waits
		}
		return f(g)
	}
}

func ok(g *got) act {
	g.Answer(g.id, g.peer)
	return answered
}

// noThanks is the message of unavailable.
const noThanks = "no thanks 50%25"

// unavailable answers UNAVAILABLE without response headers (Trailers-Only), with fields behind the usual ones.
func unavailable(fields ...string) script {
	return func(g *got) act {
		g.Headers(g.id, true, append([]string{":status", "200", "content-type", "application/grpc", "grpc-status", "14",
			"grpc-message", noThanks}, fields...)...)
		return answered
	}
}

// refuses says that the call was not processed.
func refuses(g *got) act {
	_ = g.Framer.WriteRSTStream(g.id, http2.ErrCodeRefusedStream)
	return answered
}

func hold(*got) act { return waits }

// firstly has one script for the first call that any peer gets, and another for all later ones.
func firstly(first, then script) script {
	return func(g *got) act {
		if g.before == 0 {
			return first(g)
		}
		return then(g)
	}
}

// cast are the scripted peers of a test, and what they were sent.
type cast struct {
	t *testing.T

	mu  sync.Mutex // guards all, and what it points to
	all []*got
}

// peer runs a scripted peer until the test's end.
func (p *cast) peer(id string, s script, settings ...http2.Setting) registry.Instance {
	p.t.Helper()
	return enginetest.Instance(id, enginetest.StartRawPeer(p.t, settings, func(c *enginetest.RawConn) { p.serve(c, id, s) }).Address)
}

func (p *cast) serve(c *enginetest.RawConn, id string, s script) {
	calls := make(map[uint32]*got)
	_ = c.Framer.WriteWindowUpdate(0, 1<<30)
	for f := c.Frame(); f != nil; f = c.Frame() {
		g := calls[f.Header().StreamID]
		p.mu.Lock()
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			g = &got{RawConn: c, peer: id, id: f.StreamID, before: len(p.all), at: time.Now(), fields: f, end: f.StreamEnded()}
			calls[g.id] = g
			p.all = append(p.all, g)
		case *http2.DataFrame:
			if g != nil {
				g.body = append(g.body, f.Data()...)
				g.end = f.StreamEnded()
				if n := uint32(len(f.Data())); n > 0 && !g.end {
					_ = c.Framer.WriteWindowUpdate(g.id, n)
				}
			}
		case *http2.RSTStreamFrame:
			if g != nil {
				code := f.ErrCode
				g.reset = &code
			}
		}
		ask := g != nil && !g.over && g.reset == nil
		p.mu.Unlock()
		if !ask {
			continue
		}
		switch s(g) {
		case answered:
			p.mu.Lock()
			g.over = true
			p.mu.Unlock()
		case hangsUp:
			return
		}
	}
}

// calls are what the peers were sent, in the order in which it came.
func (p *cast) calls() []got {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []got
	for _, g := range p.all {
		c := *g
		c.body = bytes.Clone(g.body)
		all = append(all, c)
	}
	return all
}

// await waits until the peers were sent n calls, and what ready wants of the last of them is there.
func (p *cast) await(n int, ready func(*got) bool) (all []got) {
	p.t.Helper()
	enginetest.Eventually(p.t, "the peers have the call", func() bool {
		all = p.calls()
		return len(all) >= n && (ready == nil || ready(&all[n-1]))
	})
	return all
}

func (g *got) whole() bool { return g.end }

func (g *got) wasReset() bool { return g.reset != nil }

// random gives n octets that compress to nothing and look like nothing.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// ping has the engine take what was sent before on a client's connection: the answer comes once it was read. It gives what came
// meanwhile on streams.
func ping(t *testing.T, c *enginetest.RawConn) []http2.Frame {
	t.Helper()
	data := [8]byte{'p', 'i', 'n', 'g'}
	enginetest.Must(t, c.Framer.WritePing(false, data))
	return pong(t, c, data)
}

// send sends a request's DATA in frames of the usual size, as far as the first window of a stream goes.
func send(t *testing.T, c *enginetest.RawConn, stream uint32, body []byte, end bool) {
	t.Helper()
	for part := range slices.Chunk(body, 16<<10) {
		enginetest.Must(t, c.Framer.WriteData(stream, false, part))
	}
	if end {
		enginetest.Must(t, c.Framer.WriteData(stream, true, nil))
	}
}

// ask opens a whole call without DATA.
func ask(c *enginetest.RawConn, stream uint32, method string, fields ...string) {
	c.Headers(stream, true, append([]string{":method", "POST", ":scheme", "http", ":path", method, ":authority", "x",
		"content-type", "application/grpc", "te", "trailers"}, fields...)...)
}

// wantRetries checks how often calls were sent once more, by reason; reasons that are not named stand for none.
func wantRetries(t *testing.T, s *enginetest.Sidecar, want map[string]uint64) {
	t.Helper()
	for reason, n := range s.Engine.Stats().Retries {
		if n != want[reason] {
			t.Errorf("%d retries were counted as %s, want %d", n, reason, want[reason])
		}
	}
}

package relay_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/flyproxy/flyproxy/pkg/relay"
)

const (
	// idleStreams is how many calls stand at a time without saying anything, and idleClients how many connections they come over.
	idleStreams, idleClients = 100_000, 10
	// idleMost is how much memory one of them may take.
	idleMost = 4 << 10
	// idleLeft is how much may be left of all of them: the stream tables of the connections to peers keep their size.
	idleLeft = 8 << 20
	// idleSample is how many calls of each connection are looked at.
	idleSample = 50
)

// A hundred thousand calls have each sent one message, which is kept until they are answered, and then nobody says anything.
func TestHundredThousandIdleStreams(t *testing.T) {
	b := newFlatBed(t, relay.Limits{Calls: 2 * idleStreams, ReplayBytes: 64 << 20})
	clients := b.idle(idleClients)
	before := b.settledSize(idleClients)
	open(t, clients, idleStreams/idleClients, true)
	b.await("all calls stand, with peers", func() bool { return b.streams() == idleStreams })
	during := flatSizeNow()
	each := (int64(during.live) - int64(before.live)) / idleStreams
	t.Logf("%d octets for each of %d idle streams", each, idleStreams)
	if each > idleMost {
		t.Errorf("an idle stream takes %d octets, %d are allowed", each, idleMost)
	}
	if during.goroutines > before.goroutines {
		t.Errorf("%d goroutines, %d before the streams", during.goroutines, before.goroutines)
	}
	for _, c := range clients {
		for stream, fields := range c.end(t, sample(c.stream, idleStreams/idleClients, idleSample)) {
			if got := flatStatus(fields); got != "0" {
				t.Errorf("stream %d of %s ends with %q", stream, c.nc.LocalAddr(), got)
			}
		}
	}
	if n, want := b.streams(), idleStreams-idleClients*idleSample; n != want {
		t.Errorf("%d calls are open, %d were not ended", n, want)
	}
	for _, c := range clients {
		c.nc.Close()
	}
	after := b.settledSize(0)
	t.Logf("live objects %d KiB before, %d with the streams, %d after", before.live>>10, during.live>>10, after.live>>10)
	if after.live > before.live+idleLeft {
		t.Errorf("objects take %d octets afterwards, %d before", after.live, before.live)
	}
}

// With the limits as they are unless somebody changes them, a hundred thousand are too many, and as many as are allowed fit into a quarter
// of a Machine of 256 MB, each with a message that is kept.
func TestIdleStreamsBeyondTheDefault(t *testing.T) {
	const calls, more, most = 16 << 10, 4000, 64 << 20
	b := newFlatBed(t)
	clients := b.idle(3)
	before := flatSizeNow()
	open(t, clients[:2], calls/2, true)
	b.await("all calls stand", func() bool { return b.streams() == calls })
	if took := flatSizeNow().live - before.live; took > most {
		t.Errorf("they take %d MiB", took>>20)
	} else {
		t.Logf("they take %.1f KiB each", float64(took)/calls/1024)
	}
	open(t, clients[2:], more, false)
	for stream, fields := range clients[2].results(t, sample(clients[2].stream, more, more)) {
		if got := flatStatus(fields); got != "8" || !strings.Contains(fmt.Sprint(fields), "limits.max_calls of the sidecar is 16384") {
			t.Fatalf("stream %d ends with %v", stream, fields)
		}
	}
	b.await("each of them is counted", func() bool { return b.engine.Stats().Limits["max_calls"] == more })
	for stream, fields := range clients[0].end(t, sample(clients[0].stream, calls/2, idleSample)) {
		if got := flatStatus(fields); got != "0" {
			t.Fatalf("stream %d ends with %v", stream, fields)
		}
	}
	if err := clients[2].calls(idleSample); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	for _, c := range clients {
		c.nc.Close()
	}
	b.settledSize(0)
}

// idleClient is a client whose calls need not end.
type idleClient struct {
	*flatClient
	dec   *hpack.Decoder
	ended map[uint32][]hpack.HeaderField // the last header block of each call that has ended
}

// idle gives clients with connections that are warm.
func (b *flatBed) idle(n int) []*idleClient {
	b.t.Helper()
	clients := make([]*idleClient, n)
	for i := range clients {
		raw, err := dialFlat("tcp", b.tcp)
		if err != nil {
			b.t.Fatal(err)
		}
		c := &idleClient{flatClient: raw, dec: hpack.NewDecoder(4096, nil), ended: make(map[uint32][]hpack.HeaderField)}
		c.look = c.see
		b.t.Cleanup(func() { c.nc.Close() })
		if err := c.calls(100); err != nil {
			b.t.Fatal(err)
		}
		clients[i] = c
	}
	return clients
}

// streams is how many calls peers have.
func (b *flatBed) streams() (n int) {
	for _, p := range b.engine.Stats().Peers {
		n += p.Streams
	}
	return n
}

// open has each of the clients begin n calls, all at once.
func open(t *testing.T, clients []*idleClient, n int, message bool) {
	t.Helper()
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			if err := c.open(n, message); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// sample gives a few streams, evenly out of the n before next.
func sample(next uint32, n, few int) (streams []uint32) {
	for i := range few {
		streams = append(streams, next-2*uint32(n)+2*uint32(i*n/few))
	}
	return streams
}

// open begins n calls and does not end their requests; message says that each sends one message.
func (c *idleClient) open(n int, message bool) error {
	_ = c.nc.SetDeadline(time.Now().Add(flatPatience))
	for range n {
		block := c.blocks.rest
		if !c.called {
			block, c.called = c.blocks.first, true
		}
		c.out = appendFlat(c.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, c.stream, block)
		if message {
			c.out = appendFlat(c.out, http2.FrameData, 0, c.stream, flatMessage)
			c.window -= int64(len(flatMessage))
		}
		c.stream += 2
		if len(c.out) > 32<<10 {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return c.flush()
}

// end ends the requests of some calls, with one more message, and gives how each was answered.
func (c *idleClient) end(t *testing.T, streams []uint32) map[uint32][]hpack.HeaderField {
	t.Helper()
	for _, id := range streams {
		c.out = appendFlat(c.out, http2.FrameData, http2.FlagDataEndStream, id, flatMessage)
	}
	return c.results(t, streams)
}

// results reads until each of the streams has ended, and gives their last header blocks.
func (c *idleClient) results(t *testing.T, streams []uint32) map[uint32][]hpack.HeaderField {
	t.Helper()
	_ = c.nc.SetDeadline(time.Now().Add(flatPatience))
	results := make(map[uint32][]hpack.HeaderField)
	for _, id := range streams {
		for c.ended[id] == nil {
			if err := c.step(); err != nil {
				t.Fatalf("%d of %d calls have ended: %v", len(results), len(streams), err)
			}
		}
		results[id] = c.ended[id]
	}
	return results
}

// step is turn, for who looks at frames by see.
func (c *idleClient) step() error {
	_, err := c.turn()
	return err
}

// see keeps the ends of responses.
func (c *idleClient) see(f flatFrame) error {
	if f.typ != http2.FrameHeaders {
		return nil
	}
	fields, err := c.dec.DecodeFull(f.payload)
	if err == nil && f.flags.Has(http2.FlagHeadersEndStream) {
		c.ended[f.stream] = fields
	}
	return err
}

func flatStatus(fields []hpack.HeaderField) string {
	for _, f := range fields {
		if f.Name == "grpc-status" {
			return f.Value
		}
	}
	return ""
}

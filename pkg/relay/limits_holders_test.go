package relay_test

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// Who is to give way at the bound is settled by what each holds in sum.

const mostOfAll = 1 << 20

var roomOfAll = relay.Config{DeadAfter: time.Minute, Limits: relay.Limits{BufferedBytes: mostOfAll}}

// octets is a peer's script: it answers with as many octets as the call asks for.
func octets(c *enginetest.RawConn) {
	for h := c.Next(); h != nil; h = c.Next() {
		n, _ := strconv.Atoi(enginetest.Values(h, "octets")[0])
		c.Respond(h.StreamID)
		pour(c, h.StreamID, n, false)
		c.Headers(h.StreamID, true, "grpc-status", "0")
	}
}

// innocent is a client whose one call holds n octets, until it opens its window.
func (b *limitBed) innocent(n int) *enginetest.RawConn {
	b.t.Helper()
	c := enginetest.DialRaw(b.t, b.Address)
	enginetest.Must(b.t, c.Framer.WriteSettings(shutWindows))
	request(c, 1, true, "raw", "octets", strconv.Itoa(n))
	enginetest.Eventually(b.t, "the innocent call is held", func() bool { return b.holds(n, 1) })
	return c
}

// One client holds nearly all, in calls of which each is smaller than the only one of another client.
func TestManySmallCallsDoNotCutAnother(t *testing.T) {
	const calls, each = 40, 40_000
	b := newLimitBed(t, roomOfAll, octets)
	c := b.innocent(50_000)
	abuser := enginetest.DialRaw(t, b.Address)
	enginetest.Must(t, abuser.Framer.WriteSettings(shutWindows))
	for i := range uint32(calls) {
		request(abuser, 2*i+1, true, "raw", "octets", strconv.Itoa(each))
	}
	cut := uint64(calls - (mostOfAll-50_000)/each)
	enginetest.Eventually(t, "no more of its calls are left than there is room for", func() bool {
		return b.hits("max_buffered_bytes") >= cut && b.Engine.Stats().BufferedBytes <= mostOfAll
	})
	enginetest.Must(t, c.Framer.WriteSettings(openWindows))
	b.ends(c, 1, "0", "", "")
	enginetest.Must(t, abuser.Framer.WriteSettings(openWindows))
	enginetest.Must(t, abuser.Framer.WriteWindowUpdate(0, 4<<20))
	ends := make(map[string]int)
	for range calls {
		code, message := anyResult(abuser)
		if ends[code]++; code != "0" {
			names(t, message, "max_buffered_bytes", strconv.Itoa(mostOfAll))
		}
	}
	t.Logf("its %d calls end with %v", calls, ends)
	if ends["8"] != int(b.hits("max_buffered_bytes")) || ends["0"]+ends["8"] != calls {
		t.Errorf("its calls end with %v, the limit was counted %d times", ends, b.hits("max_buffered_bytes"))
	}
	b.over("max_buffered_bytes", uint64(ends["8"]))
}

// anyResult reads until any stream has ended.
func anyResult(c *enginetest.RawConn) (code, message string) {
	for {
		switch f := c.Frame().(type) {
		case nil:
			return "the loss of its connection", ""
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				return strings.Join(enginetest.Values(f, "grpc-status"), ""), strings.Join(enginetest.Values(f, "grpc-message"), "")
			}
		}
	}
}

// One client holds nearly all for peers that open no window, for each of them little: it is the client's, though it waits on connections
// to peers.
func TestManySmallRequestsDoNotCutAnother(t *testing.T) {
	const calls, each = 32, 40_000
	b := newLimitBed(t, roomOfAll, octets)
	for i := range calls {
		b.add("shut"+strconv.Itoa(i), enginetest.StartRawPeer(t, []http2.Setting{shutWindows}, (*enginetest.RawConn).Drain).Address)
	}
	c := b.innocent(50_000)
	abuser := enginetest.DialRaw(t, b.Address)
	for i := range uint32(calls) {
		request(abuser, 2*i+1, false, "shut"+strconv.Itoa(int(i)))
		pour(abuser, 2*i+1, each, false)
	}
	cut := uint64(calls - (mostOfAll-50_000)/each)
	enginetest.Eventually(t, "no more of its calls are left than there is room for", func() bool {
		return b.hits("max_buffered_bytes") >= cut && b.Engine.Stats().BufferedBytes <= mostOfAll
	})
	enginetest.Must(t, c.Framer.WriteSettings(openWindows))
	b.ends(c, 1, "0", "", "")
	hits := b.hits("max_buffered_bytes")
	t.Logf("%d of its %d calls were ended", hits, calls)
	abuser.Close()
	b.over("max_buffered_bytes", hits)
}

// Many connections hold header blocks that do not end. Each holds less than the only call of another client, together they are too many.
func TestEndlessBlocksDoNotCutAnother(t *testing.T) {
	const clients, piece, each = 30, 15_000, 45_000
	b := newLimitBed(t, roomOfAll, octets)
	c := b.innocent(60_000)
	var abusers []*enginetest.RawConn
	for range clients {
		a := enginetest.DialRaw(t, b.Address)
		_ = a.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, piece)})
		_ = a.Framer.WriteContinuation(1, false, make([]byte, piece))
		_ = a.Framer.WriteContinuation(1, false, make([]byte, piece))
		abusers = append(abusers, a)
	}
	cut := uint64(clients - (mostOfAll-60_000)/each)
	enginetest.Eventually(t, "no more of them are left than there is room for", func() bool {
		return b.hits("max_buffered_bytes") >= cut && b.Engine.Stats().BufferedBytes <= mostOfAll
	})
	b.unharmed()
	enginetest.Must(t, c.Framer.WriteSettings(openWindows))
	b.ends(c, 1, "0", "", "")
	hits := b.hits("max_buffered_bytes")
	t.Logf("%d of %d clients were ended", hits, clients)
	if hits > cut+1 { // one may have been between two of its pieces
		t.Errorf("%d clients were ended, %d had to be", hits, cut)
	}
	for _, a := range abusers {
		a.Close()
	}
	b.over("max_buffered_bytes", hits)
}

// pacedConn reads little at a time, in steps, until the channel is closed.
type pacedConn struct {
	net.Conn
	pace <-chan struct{}
}

func (c pacedConn) Read(p []byte) (int, error) {
	if _, ok := <-c.pace; ok {
		p = p[:min(len(p), 2<<10)]
	}
	return c.Conn.Read(p)
}

// filled gives a client with room for so many octets of what comes, and calls of a peer that sends without end.
func (b *limitBed) filled(room int, pace <-chan struct{}) *enginetest.RawConn {
	b.t.Helper()
	nc, err := net.Dial("tcp", b.Address)
	enginetest.Must(b.t, err)
	enginetest.Must(b.t, nc.(*net.TCPConn).SetReadBuffer(room))
	c := enginetest.RawClient(b.t, pacedConn{nc, pace})
	enginetest.Must(b.t, c.Framer.WriteSettings(openWindows))
	enginetest.Must(b.t, c.Framer.WriteWindowUpdate(0, 64<<20))
	for i := range uint32(8) {
		request(c, 2*i+1, true, "fills")
	}
	return c
}

// Many clients do not read, and one reads slowly: 100 KB/s, of megabytes that its socket holds. It is not among those that end.
func TestSlowReadersAreNotStuck(t *testing.T) {
	const deaf, most = 12, 512 << 10
	b := newLimitBed(t, relay.Config{DeadAfter: time.Minute, Limits: relay.Limits{BufferedBytes: most}}, nil)
	b.add("fills", enginetest.StartBackend(t, func(_ *enginetest.Backend, s grpc.ServerStream) error {
		m := enginetest.Message(slices.Repeat([]byte("x"), 32<<10))
		for {
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
	}).Address)
	pace, over := make(chan struct{}), make(chan struct{})
	stop := sync.OnceFunc(func() { close(over) })
	t.Cleanup(stop)
	go func() {
		defer close(pace)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			select {
			case <-over:
				return
			case pace <- struct{}{}:
			}
		}
	}()
	slow := b.filled(64<<10, pace)
	lost := make(chan error, 1)
	got := 0
	go func() {
		for {
			f, err := slow.Framer.ReadFrame()
			if err != nil {
				lost <- err
				return
			}
			got += int(f.Header().Length)
			if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
				lost <- nil
				return
			}
		}
	}()
	for range deaf {
		b.filled(4<<10, nil)
	}
	enginetest.Eventually(t, "all are there", func() bool { return b.Engine.Stats().Clients == deaf+2 })
	enginetest.Eventually(t, "those that do not read make room", func() bool {
		st := b.Engine.Stats()
		return st.BufferedBytes <= most && st.Clients < deaf
	})
	enginetest.Must(t, slow.Framer.WritePing(false, [8]byte{1}))
	stop()
	err := enginetest.Receive(t, lost)
	t.Logf("%d clients are left; the slow one has read %d octets", b.Engine.Stats().Clients-1, got)
	if err != nil {
		t.Errorf("the connection of the client that reads slowly: %v", err)
	}
}

package relay

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// What the path does to a PING and to keepalive, and what the sidecar's own clock does, is given to the link as the janitor would give it.

// watched is a link that the test looks after, in place of a janitor.
type watched struct {
	*link
	t    *testing.T
	now  int64
	path path
}

func watch(t *testing.T) *watched {
	enginetest.CheckLeaks(t)
	here, there := net.Pipe()
	e := &Engine{epoch: time.Now(), conns: map[*conn]struct{}{}}
	e.cfg.setDefaults()
	pe := &peer{e: e}
	l := &link{p: pe, c: newConn(e, here)}
	l.c.link, pe.links = l, []*link{l}
	pe.publish()
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, there)
	}()
	t.Cleanup(func() {
		_ = here.Close()
		_ = there.Close()
		<-read
		e.tasks.Wait()
	})
	return &watched{link: l, t: t, now: int64(time.Hour), path: path{known: true, rtt: 20 * time.Millisecond, window: 1 << 16, acked: 100, written: 100}}
}

// look lets a time pass since the janitor's last look, and has it look.
func (w *watched) look(after time.Duration) {
	w.t.Helper()
	w.now += int64(after)
	w.judge(w.now, lateness(int64(after)), w.path)
	enginetest.Eventually(w.t, "what was sent is written", func() bool {
		w.c.mu.Lock()
		defer w.c.mu.Unlock()
		return !w.c.writing
	})
}

// is checks what has become of the link.
func (w *watched) is(what string, takesCalls, silent, cut bool) {
	w.t.Helper()
	if ready := len(*w.p.ready.Load()) == 1; ready != takesCalls || w.silent != silent || (w.c.broken.Load() != nil) != cut {
		w.t.Errorf("%s: takes calls %v, silent %v, cut %v; want %v, %v, %v", what, ready, w.silent, w.c.broken.Load() != nil,
			takesCalls, silent, cut)
	}
}

// ping has a call begun, and the time go by until it is asked after.
func (w *watched) ping() {
	w.t.Helper()
	w.waits(w.now)
	for range 3 {
		w.look(tick)
	}
	if w.pinged != w.now {
		w.t.Fatal("no PING was sent")
	}
}

// One keepalive probe was lost, of a peer without calls that is well.
func TestOneLostProbe(t *testing.T) {
	w := watch(t)
	w.path.sinceAck, w.path.probes = 1250*time.Millisecond, 1
	w.look(tick)
	w.is("a probe is out", true, false, false)
	w.path.sinceAck = 1750 * time.Millisecond
	w.look(2 * tick)
	w.is("it is late", false, false, false)
	w.path.sinceAck, w.path.probes = 2*time.Second, 2
	w.look(tick)
	w.is("another is out", false, false, false)
	w.path.sinceAck, w.path.probes = 100*time.Millisecond, 0
	w.look(tick)
	w.is("that one is answered", true, false, false)
	w.path.sinceAck, w.path.probes = 2250*time.Millisecond, 2
	w.look(tick)
	w.is("two are unanswered", false, true, false)
	for range 11 {
		w.is("dead_after is not over", false, true, false)
		w.path.sinceAck += tick
		w.look(tick)
	}
	w.is("dead_after is over", false, true, true)
}

// With calls open, one is enough, as long as they are.
func TestLostProbeWithCalls(t *testing.T) {
	w := watch(t)
	w.streams.Store(1)
	w.path.sinceAck, w.path.probes = 1500*time.Millisecond, 1
	w.look(tick)
	w.is("it is late", false, true, false)
}

// A round trip that is longer than half a second makes no peer silent.
func TestProbeOverLongPath(t *testing.T) {
	w := watch(t)
	w.streams.Store(1)
	w.path.rtt, w.path.sinceAck, w.path.probes = 700*time.Millisecond, 1690*time.Millisecond, 1
	w.look(tick)
	w.is("the answer is under way", true, false, false)
	w.path.sinceAck, w.path.probes = 2500*time.Millisecond, 2
	w.look(tick)
	w.is("it should have come", false, true, false)
}

// A PING lies in a queue on the way, for longer than a peer may be silent, while what lies before it is acknowledged.
func TestPingBehindAQueueInThePath(t *testing.T) {
	w := watch(t)
	w.path.unacked, w.path.written = true, 2<<20
	w.ping()
	w.path.written += frameHeaderLen + 8
	for range 4 * 4 * 5 {
		w.path.acked += 20 << 10
		w.path.taken = w.path.acked + uint64(w.path.window)
		w.look(tick)
		w.is("the queue moves", true, false, false)
	}
	// What is written behind the PING changes nothing.
	w.path.acked = w.pingPlace
	w.path.written += 1 << 20
	w.look(tick)
	w.is("it has come", true, false, false)
	for range 3 {
		w.path.acked += 20 << 10
		w.look(tick)
	}
	w.is("it is not answered", false, true, false)
	w.heard(w.now)
	w.look(tick)
	w.is("it is answered late", true, false, false)
}

// What is first seen when dead_after is already over is not cut in the same look.
func TestSilentForLongAtFirstSight(t *testing.T) {
	w := watch(t)
	w.path.sinceAck, w.path.probes = time.Minute, 9
	w.look(tick)
	w.is("at first sight", false, true, false)
	w.path.sinceAck += tick
	w.look(tick)
	w.is("a look later", false, true, true)
}

// The kernel of a process that is stopped goes on to acknowledge: the PING counts from when it was sent.
func TestPingToAStoppedProcess(t *testing.T) {
	w := watch(t)
	began := w.now
	w.ping()
	for w.path.written = 1 << 10; !w.silent && w.now-began < int64(time.Minute); {
		w.path.written += 100
		w.path.acked = w.path.written
		w.look(tick)
	}
	if took := time.Duration(w.now - began); took > 2*time.Second {
		t.Errorf("it was found after %v", took)
	}
}

// The sidecar stands still for a minute: while a PING is out, while a probe is, while octets wait, while the peer is silent.
func TestStandstill(t *testing.T) {
	const minute = time.Minute
	t.Run("PingIsOut", func(t *testing.T) {
		w := watch(t)
		w.ping()
		w.look(tick)
		w.look(minute)
		w.is("it is awake", true, false, false)
		w.heard(w.now + 1) // the answer lay in the socket
		w.satisfied()
		w.look(tick)
		w.look(4 * minute)
		w.is("again", true, false, false)
	})
	t.Run("PingIsOutOnAnUnknownPath", func(t *testing.T) {
		w := watch(t)
		w.path = path{}
		w.ping()
		w.look(minute)
		w.is("it is awake", true, false, false)
		for range 2 {
			w.look(tick)
		}
		w.is("it is not answered", false, true, false)
	})
	t.Run("PingIsNeverAnswered", func(t *testing.T) {
		w := watch(t)
		w.ping()
		w.look(minute)
		for range 3 {
			w.look(tick)
		}
		w.is("it is awake for a second", false, true, false)
		w.look(minute)
		w.is("it stood still again", false, true, false)
		for range 20 {
			w.look(tick)
		}
		w.is("dead_after is over", false, true, true)
	})
	t.Run("MachineWasSuspended", func(t *testing.T) {
		w := watch(t)
		w.streams.Store(1)
		w.look(tick)
		w.path.sinceAck, w.path.probes = minute, 1
		w.look(minute)
		w.is("it is awake, and the probe was not answered yet", true, false, false)
		for range 7 {
			w.path.sinceAck += tick
			w.look(tick)
		}
		w.is("it never is", false, true, false)
	})
	t.Run("OctetsWait", func(t *testing.T) {
		w := watch(t)
		w.path.unsent, w.path.taken = 1000, 1000
		w.look(tick)
		w.look(tick)
		w.look(minute)
		w.is("it is awake", true, false, false)
		for range 6 {
			w.look(tick)
		}
		w.is("nothing was taken since", false, true, false)
	})
	t.Run("LateByLess", func(t *testing.T) {
		w := watch(t)
		w.ping()
		w.look(2 * tick)
		w.look(2 * tick)
		w.is("that time counts", false, true, false)
	})
}

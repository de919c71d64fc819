package enginetest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// peers are tests of which peer gets a call when some of them are dead, or die.
func peers() []one {
	return []one{
		{"NoInstances", testNoInstances},
		{"KilledDuringCall", testPeerKilledDuringCall},
		{"NewCallsAvoidKilledPeer", testNewCallsAvoidKilledPeer},
		{"KilledUnderLoad", testPeerKilledUnderLoad},
		{"RefusingPeerIsUnseen", testRefusingPeer},
		{"SilentPeerIsUnseen", testSilentPeer},
		{"AllSilent", testAllPeersSilent},
		{"PeerThatSpeaksSomethingElse", testPeerThatSpeaksSomethingElse},
		{"ComesBack", testPeerThatComesBack},
	}
}

func testNoInstances(t *testing.T, e Subject) {
	s := e.Start(t, Setup{})
	_, err := Unary(Context(t), Dial(t, s.Address), "x")
	want := "No gRPC instances available for service app: 0 known, 0 healthy, 0 in region fra"
	if st := status.Convert(err); st.Code() != codes.Unavailable || st.Message() != want {
		t.Errorf("got %v, want %s", st, want)
	}
	s.Quiet()
}

// The client is told at once: the call has no deadline that would end it soon.
func testPeerKilledDuringCall(t *testing.T, e Subject) {
	s, b, cc := e.Pair(t, Hold(nil))
	st := Begin(t, Context(t), cc)
	b.Server.Stop()
	err := st.RecvMsg(new(Message))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "app/i0") {
		t.Errorf("got %v, want UNAVAILABLE that names the instance", err)
	}
	s.Quiet()
	if i := s.Told.calls()[0]; i.Code != codes.Unavailable || i.PeerID != "i0" {
		t.Errorf("the observer was told %+v", i.CallInfo)
	}
}

// After a peer was killed, every new call finds another.
func testNewCallsAvoidKilledPeer(t *testing.T, e Subject) {
	a, b := StartBackend(t, Hold(nil)), StartBackend(t, Echo)
	s := e.Start(t, Setup{})
	s.Use(a, b)
	cc := Dial(t, s.Address)
	st := Begin(t, metadata.AppendToOutgoingContext(Context(t), "fly-force-instance-id", "i0"), cc)
	a.Server.Stop()
	if err := st.RecvMsg(new(Message)); status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v", err)
	}
	for range 100 {
		_, err := Unary(Context(t), cc, "x")
		Must(t, err)
	}
	s.Quiet()
}

// A process is killed: its connections are reset and its port refuses. Only the calls that it had may fail. How long calls still
// ended with it is in the log.
func testPeerKilledUnderLoad(t *testing.T, e Subject) {
	const holds, callers = 4, 8 // the peer keeps a few calls, so that it has some when it is killed
	var kept atomic.Int64
	raw := StartRawPeer(t, nil, func(c *RawConn) {
		for h := c.Next(); h != nil; h = c.Next() {
			if kept.Add(1) > holds {
				c.Answer(h.StreamID, "x")
			}
		}
	})
	b := StartBackend(t, Echo)
	s := e.Start(t, Setup{})
	s.Set(Instance("killed", raw.Address), Instance("live", b.Address))
	cc := Dial(t, s.Address)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
					ctx, cancel := context.WithTimeout(context.Background(), Patience)
					_, _ = Unary(ctx, cc, "x") // the recorder looks at the results
					cancel()
				}
			}
		})
	}
	defer wg.Wait()
	stop := sync.OnceFunc(func() { close(quit) })
	defer stop()
	Eventually(t, "both peers are busy", func() bool { return s.Told.of("killed") > 50 && s.Told.of("live") > 50 })
	raw.kill()
	killed := time.Now()
	had := s.Told.of("live")
	// Long enough that it is dialled again.
	Eventually(t, "a while has passed", func() bool {
		return s.Told.of("live") > had+500 && time.Since(killed) > 1200*time.Millisecond
	})
	stop()
	wg.Wait()
	s.Quiet()
	touched, failed := time.Duration(0), 0
	all := s.Told.calls()
	for _, i := range all {
		if i.PeerID == "killed" || i.Code != codes.OK {
			touched = max(touched, i.at.Sub(killed))
		}
		if i.Code != codes.OK {
			failed++
		}
	}
	t.Logf("of %d calls %d failed; the last one that the killed peer had ended %v after it was killed", len(all), failed, touched)
	if failed < holds || failed > callers {
		t.Errorf("%d calls failed, want the %d that the peer kept, and at most the %d that it may have had", failed, holds, callers)
	}
}

func testRefusingPeer(t *testing.T, e Subject) {
	b := StartBackend(t, Echo)
	s := e.Start(t, Setup{})
	s.Set(Instance("dead", deadAddress(t)), Instance("live", b.Address))
	cc := Dial(t, s.Address)
	for range 50 {
		_, err := Unary(Context(t), cc, "x")
		Must(t, err)
	}
	ctx := metadata.AppendToOutgoingContext(Context(t), "fly-force-instance-id", "dead")
	_, err := Unary(ctx, cc, "x")
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "did not take the call") {
		t.Errorf("the pinned call: %v", err)
	}
	s.Quiet()
}

// deadAddress is one whose port refuses.
func deadAddress(t testing.TB) string {
	l := Listen(t, "127.0.0.1:0")
	l.Close()
	return l.Addr().String()
}

// A peer that accepts connections and says nothing costs a call the connect timeout, once; then it is backed off.
func testSilentPeer(t *testing.T, e Subject) {
	var dials atomic.Int64
	silent := acceptAll(t, func(net.Conn) { dials.Add(1) })
	b := StartBackend(t, Echo)
	s := e.Start(t, Setup{Options: Options{ConnectTimeout: 200 * time.Millisecond}})
	s.Set(Instance("live", b.Address))
	cc := Dial(t, s.Address)
	Eventually(t, "the live peer has a connection", func() bool { // which may take more than that timeout on a busy machine
		_, err := Unary(Context(t), cc, "x")
		return err == nil
	})
	s.Set(Instance("silent", silent), Instance("live", b.Address))
	began := time.Now()
	for range 100 {
		_, err := Unary(Context(t), cc, "x")
		Must(t, err)
	}
	took := time.Since(began)
	t.Logf("%d dials in %v", dials.Load(), took)
	if n, most := dials.Load(), mostDials(took); n > most {
		t.Errorf("the silent peer was dialled %d times in %v, want %d at most", n, took, most)
	}
	s.Quiet()
}

// mostDials is how often a peer may be dialled within a time that uses none of its connections: 50 ms, doubled up to 1 s, are 5
// dials in the first second and one in each further one.
func mostDials(within time.Duration) int64 { return 8 + int64(within/time.Second) }

// acceptAll listens until the test's end, hands each connection to f, and closes them in the end.
func acceptAll(t testing.TB, f func(net.Conn)) (address string) {
	t.Helper()
	l := Listen(t, "127.0.0.1:0")
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			f(nc)
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// A call tries no peer twice, so it comes to an end.
func testAllPeersSilent(t *testing.T, e Subject) {
	const n = 8
	silent := acceptAll(t, func(net.Conn) {})
	var in []registry.Instance
	for i := range n {
		in = append(in, Instance(fmt.Sprint(i), silent))
	}
	s := e.Start(t, Setup{Options: Options{ConnectTimeout: 100 * time.Millisecond}})
	s.Set(in...)
	began := time.Now()
	_, err := Unary(Context(t), Dial(t, s.Address), "x")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	s.Quiet()
	i := s.Told.calls()[0]
	t.Logf("%d attempts in %v: %v", i.Attempts, time.Since(began), err)
	if i.Attempts < 2 || i.Attempts > n || i.PeerID != "" {
		t.Errorf("the observer was told %+v", i.CallInfo)
	}
}

// What a peer sends that is no HTTP/2 is no call's fault.
func testPeerThatSpeaksSomethingElse(t *testing.T, e Subject) {
	http1 := acceptAll(t, func(nc net.Conn) {
		fmt.Fprint(nc, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		nc.Close()
	})
	b := StartBackend(t, Echo)
	s := e.Start(t, Setup{})
	s.Set(Instance("http1", http1), Instance("live", b.Address))
	cc := Dial(t, s.Address)
	for range 20 {
		_, err := Unary(Context(t), cc, "x")
		Must(t, err)
	}
	s.Quiet()
}

func testPeerThatComesBack(t *testing.T, e Subject) {
	l := Listen(t, "127.0.0.1:0")
	address := l.Addr().String()
	a := startBackendOn(t, l, Echo)
	s := e.Start(t, Setup{})
	s.Set(Instance("only", address))
	cc := Dial(t, s.Address)
	_, err := Unary(Context(t), cc, "x")
	Must(t, err)
	a.Server.Stop()
	Eventually(t, "the peer is known to be down", func() bool {
		_, err := Unary(Context(t), cc, "x")
		return status.Code(err) == codes.Unavailable
	})
	startBackendOn(t, Listen(t, address), Echo)
	Eventually(t, "the peer is used again", func() bool {
		_, err := Unary(Context(t), cc, "x")
		return err == nil
	})
	for _, p := range s.Router.Known() {
		if p.BackedOff() {
			t.Error("the peer is still backed off")
		}
	}
	s.Quiet()
}

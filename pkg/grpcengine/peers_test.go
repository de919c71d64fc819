package grpcengine_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/routing"
)

// hold answers each call when release is closed.
func hold(release <-chan struct{}) handler {
	return func(b *backend, s grpc.ServerStream) error {
		if err := s.SendHeader(nil); err != nil {
			return err
		}
		select {
		case <-release:
			return echo(b, s)
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

func TestNoInstances(t *testing.T) {
	leakCheck(t)
	s := startSidecar(t, options{})
	_, err := unary(testContext(t), dial(t, s.address), "x")
	want := "No gRPC instances available for service app: 0 known, 0 healthy, 0 in region fra"
	if st := status.Convert(err); st.Code() != codes.Unavailable || st.Message() != want {
		t.Errorf("got %v, want %s", st, want)
	}
}

func TestPeerKilledDuringCall(t *testing.T) {
	leakCheck(t)
	s, b, cc := pair(t, hold(nil))
	st, err := cc.NewStream(testContext(t), bidi, method)
	must(t, err)
	_, err = st.Header()
	must(t, err)
	began := time.Now()
	b.server.Stop()
	err = st.RecvMsg(new(message))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "app/i0") {
		t.Errorf("got %v, want UNAVAILABLE that names the instance", err)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("the client was told after %v", d)
	}
	s.quiet()
}

// After a peer was killed, every new call finds another, at once.
func TestNewCallsAvoidKilledPeer(t *testing.T) {
	leakCheck(t)
	a, b := startBackend(t, hold(nil)), startBackend(t, echo)
	s := startSidecar(t, options{})
	s.use(a, b)
	cc := dial(t, s.address)
	ctx := metadata.AppendToOutgoingContext(testContext(t), "fly-force-instance-id", "i0")
	st, err := cc.NewStream(ctx, bidi, method)
	must(t, err)
	_, err = st.Header()
	must(t, err)
	a.server.Stop()
	if err := st.RecvMsg(new(message)); status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v", err)
	}
	for range 100 {
		began := time.Now()
		_, err := unary(testContext(t), cc, "x")
		must(t, err)
		if d := time.Since(began); d > 500*time.Millisecond {
			t.Errorf("a call took %v", d)
		}
	}
	s.quiet()
}

func TestRefusingPeerIsUnseen(t *testing.T) {
	leakCheck(t)
	l := listen(t, "127.0.0.1:0")
	dead := instance("dead", l.Addr().String())
	l.Close()
	b := startBackend(t, echo)
	s := startSidecar(t, options{})
	s.set(dead, instance("live", b.address))
	cc := dial(t, s.address)
	for range 50 {
		_, err := unary(testContext(t), cc, "x")
		must(t, err)
	}
	ctx := metadata.AppendToOutgoingContext(testContext(t), "fly-force-instance-id", "dead")
	if _, err := unary(ctx, cc, "x"); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "did not take the call") {
		t.Errorf("the pinned call: %v", err)
	}
	s.quiet()
}

// A peer that accepts connections and says nothing costs a call the connect timeout, once; then it is backed off.
func TestSilentPeerIsUnseen(t *testing.T) {
	leakCheck(t)
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	b := startBackend(t, echo)
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.ConnectTimeout = 200 * time.Millisecond }})
	s.set(instance("silent", l.Addr().String()), instance("live", b.address))
	cc := dial(t, s.address)
	for range 20 {
		began := time.Now()
		_, err := unary(testContext(t), cc, "x")
		must(t, err)
		if d := time.Since(began); d > time.Second {
			t.Errorf("a call took %v", d)
		}
	}
	s.quiet()
}

func TestAllPeersSilentIsBounded(t *testing.T) {
	leakCheck(t)
	var in []registry.Instance
	for i := range 8 {
		l := listen(t, "127.0.0.1:0")
		defer l.Close()
		in = append(in, instance(fmt.Sprint(i), l.Addr().String()))
	}
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.ConnectTimeout = 100 * time.Millisecond }})
	s.set(in...)
	began := time.Now()
	_, err := unary(testContext(t), dial(t, s.address), "x")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("it took %v", d)
	}
	s.quiet()
}

func TestDeadlineHoldsWhileConnecting(t *testing.T) {
	leakCheck(t)
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.ConnectTimeout = time.Minute }})
	s.set(instance("silent", l.Addr().String()))
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := unary(ctx, dial(t, s.address), "x"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	s.quiet()
}

func TestPeerThatComesBackIsUsedAgain(t *testing.T) {
	leakCheck(t)
	l := listen(t, "127.0.0.1:0")
	address := l.Addr().String()
	a := startBackendAt(t, l, echo)
	s := startSidecar(t, options{})
	s.set(instance("only", address))
	cc := dial(t, s.address)
	_, err := unary(testContext(t), cc, "x")
	must(t, err)
	a.server.Stop()
	eventually(t, "the peer is known to be down", func() bool {
		_, err := unary(testContext(t), cc, "x")
		return status.Code(err) == codes.Unavailable
	})
	startBackendAt(t, listen(t, address), echo)
	eventually(t, "the peer is used again", func() bool {
		_, err := unary(testContext(t), cc, "x")
		return err == nil
	})
	for _, p := range s.router.Known() {
		if p.BackedOff() {
			t.Error("the peer is still backed off")
		}
	}
}

// goesAway answers its first call with a GOAWAY that leaves the call out.
func goesAway(c *rawConn) {
	h := c.next()
	if h == nil {
		return
	}
	_ = c.f.WriteGoAway(h.StreamID-1, http2.ErrCodeNo, nil)
	for c.frame() != nil { // until the other side closes
	}
}

func refuses(c *rawConn) {
	for h := c.next(); h != nil; h = c.next() {
		_ = c.f.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
	}
}

// A call that its peer has not processed goes to another peer: the client does not see it, and it does not count as a retry.
func TestUnprocessedCallGoesToAnotherPeer(t *testing.T) {
	for name, script := range map[string]func(*rawConn){"GOAWAY": goesAway, "REFUSED_STREAM": refuses} {
		t.Run(name, func(t *testing.T) {
			leakCheck(t)
			var attempts atomic.Value
			b := startBackend(t, func(b *backend, s grpc.ServerStream) error {
				md, _ := metadata.FromIncomingContext(s.Context())
				attempts.Store(fmt.Sprint(md["grpc-previous-rpc-attempts"]))
				return echo(b, s)
			})
			raw := startRawPeer(t, nil, script)
			s := startSidecar(t, options{})
			s.set(instance("a", raw.address), instance("b", b.address))
			cc := dial(t, s.address)
			for range 20 {
				got, err := unary(testContext(t), cc, "the body is replayed")
				must(t, err)
				if got != "the body is replayed" {
					t.Fatalf("got %q", got)
				}
				if a := attempts.Load(); a != "[]" {
					t.Fatalf("grpc-previous-rpc-attempts is %v", a)
				}
			}
			s.quiet()
		})
	}
}

// Where there is only one peer, it gets the call again, on a new connection.
func TestUnprocessedCallGoesToSamePeerIfAlone(t *testing.T) {
	leakCheck(t)
	raw := startRawPeer(t, nil, func(c *rawConn) {
		if c.n == 0 {
			goesAway(c)
			return
		}
		answerAll("second connection")(c)
	})
	s := startSidecar(t, options{})
	s.set(instance("only", raw.address))
	got, err := unary(testContext(t), dial(t, s.address), "x")
	must(t, err)
	if got != "second connection" {
		t.Errorf("got %q", got)
	}
	s.quiet()
}

func TestCallBelowLastStreamIDOfGoAwayFinishes(t *testing.T) {
	leakCheck(t)
	raw := startRawPeer(t, nil, func(c *rawConn) {
		h := c.next()
		if h == nil {
			return
		}
		_ = c.f.WriteGoAway(h.StreamID, http2.ErrCodeNo, nil)
		c.answer(h.StreamID, "finished")
		for c.frame() != nil {
		}
	})
	s := startSidecar(t, options{})
	s.set(instance("only", raw.address))
	cc := dial(t, s.address)
	for range 5 {
		got, err := unary(testContext(t), cc, "x")
		must(t, err)
		if got != "finished" {
			t.Errorf("got %q", got)
		}
	}
}

// load calls as fast as it can from n goroutines until stop is called, which gives the number of calls and fails on any error.
func load(t testing.TB, cc *grpc.ClientConn, n int) (stop func() int64) {
	var calls, failed atomic.Int64
	var first atomic.Value
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				calls.Add(1)
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				if got, err := unary(ctx, cc, "x"); err != nil || got != "x" {
					failed.Add(1)
					first.CompareAndSwap(nil, fmt.Sprint(got, err))
				}
				cancel()
			}
		})
	}
	return func() int64 {
		close(quit)
		wg.Wait()
		if f := failed.Load(); f > 0 {
			t.Errorf("%d of %d calls failed, the first with %v", f, calls.Load(), first.Load())
		}
		return calls.Load()
	}
}

func TestRollingRestartUnderLoad(t *testing.T) {
	leakCheck(t)
	s := startSidecar(t, options{})
	backends := []*backend{startBackend(t, echo), startBackend(t, echo), startBackend(t, echo)}
	s.use(backends...)
	stop := load(t, dial(t, s.address), 16)
	for i := range backends {
		served := backends[i].calls.Load()
		eventually(t, "the peer is busy", func() bool { return backends[i].calls.Load() > served+50 })
		backends[i].server.GracefulStop() // the registry has not said a word
		backends[i] = startBackend(t, echo)
		s.use(backends...)
	}
	for _, b := range backends {
		eventually(t, "every new peer has calls", func() bool { return b.calls.Load() > 0 })
	}
	t.Logf("%d calls", stop())
	s.quiet()
}

// Views change under load; a removed peer's calls end in peace.
func TestPeersComeAndGoUnderLoad(t *testing.T) {
	leakCheck(t)
	s := startSidecar(t, options{})
	all := []*backend{startBackend(t, echo), startBackend(t, echo), startBackend(t, echo), startBackend(t, echo)}
	s.use(all...)
	cc := dial(t, s.address)
	release := make(chan struct{})
	slow := startBackend(t, hold(release))
	s.set(instance("slow", slow.address))
	ctx, cancel := context.WithTimeout(context.Background(), 6*patience)
	defer cancel()
	st, err := cc.NewStream(ctx, bidi, method)
	must(t, err)
	_, err = st.Header()
	must(t, err)

	s.use(all...) // takes slow away
	stop := load(t, cc, 1000)
	for i := range 20 {
		from := i % len(all)
		s.set(instance(fmt.Sprint("g", i), all[from].address), instance(fmt.Sprint("h", i), all[(from+1)%len(all)].address))
		eventually(t, "the new peers have calls", func() bool {
			for _, p := range s.engine.Stats().Peers {
				if p.Key.ID == fmt.Sprint("g", i) && p.Ready > 0 {
					return true
				}
			}
			return false
		})
	}
	t.Logf("%d calls", stop())
	close(release)
	m := message("still there")
	must(t, st.SendMsg(&m))
	must(t, st.RecvMsg(&m))
	must(t, st.CloseSend())
	if err := st.RecvMsg(&m); err != io.EOF || string(m) != "still there" {
		t.Errorf("the call on the removed peer: %q, %v", m, err)
	}
	s.quiet()
	if n := len(s.engine.Stats().Peers); n != 2 {
		t.Errorf("%d peers have connections, want the 2 that are known", n)
	}
}

func TestFullPeerGetsAnotherConnection(t *testing.T) {
	leakCheck(t)
	release := make(chan struct{})
	b := startBackend(t, hold(release), grpc.MaxConcurrentStreams(1))
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.MaxConnectionsPerPeer = 3 }})
	s.use(b)
	cc := dial(t, s.address)
	errs := make(chan error, 5)
	for range 5 {
		go func() {
			_, err := unary(testContext(t), cc, "x")
			errs <- err
		}()
	}
	eventually(t, "three calls on three connections, two waiting", func() bool {
		st := s.engine.Stats()
		return b.calls.Load() == 3 && st.Connections() == 3 && st.InFlight == 5 && st.Peers[0].Streams == 5
	})
	close(release)
	for range 5 {
		must(t, <-errs)
	}
	if n := b.calls.Load(); n != 5 {
		t.Errorf("the peer had %d calls", n)
	}
	s.quiet()
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, echo)
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) { c.IdleTimeout = 50 * time.Millisecond }})
	s.use(b)
	cc := dial(t, s.address)
	for range 2 {
		_, err := unary(testContext(t), cc, "x")
		must(t, err)
		eventually(t, "the connection is closed", func() bool { return len(s.engine.Stats().Peers) == 0 })
	}
}

func TestAddressOutsideAllowedNetworksIsNotDialled(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, echo)
	s := startSidecar(t, options{engine: func(c *grpcengine.Config) {
		c.AllowedNetworks = []netip.Prefix{netip.MustParsePrefix("fdaa::/16")}
	}})
	_, port, err := net.SplitHostPort(b.address)
	must(t, err)
	s.set(instance("by-name", "localhost:"+port))
	if _, err := unary(testContext(t), dial(t, s.address), "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if b.calls.Load() != 0 {
		t.Error("the peer was called")
	}
}

func TestNameIsResolvedWhenDialling(t *testing.T) {
	leakCheck(t)
	b := startBackend(t, echo)
	s := startSidecar(t, options{})
	_, port, err := net.SplitHostPort(b.address)
	must(t, err)
	s.set(instance("by-name", "localhost:"+port))
	_, err = unary(testContext(t), dial(t, s.address), "x")
	must(t, err)
}

func TestProxyEnvironmentIsIgnored(t *testing.T) {
	leakCheck(t)
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	_, _, cc := pair(t, echo)
	_, err := unary(testContext(t), cc, "x")
	must(t, err)
}

// What a peer sends wrong is this call's status, and leaves the others alone.
func TestPeerThatSpeaksSomethingElse(t *testing.T) {
	leakCheck(t)
	l := listen(t, "127.0.0.1:0")
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(nc, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			nc.Close()
		}
	})
	defer wg.Wait()
	defer l.Close()
	b := startBackend(t, echo)
	s := startSidecar(t, options{})
	s.set(instance("http1", l.Addr().String()), instance("live", b.address))
	cc := dial(t, s.address)
	for range 20 {
		_, err := unary(testContext(t), cc, "x")
		must(t, err)
	}
	s.quiet()
}

// recorder is an Observer.
type recorder struct {
	mu      sync.Mutex
	started int
	ended   []grpcengine.CallInfo
}

func (r *recorder) CallStarted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started++
}

func (r *recorder) CallEnded(i grpcengine.CallInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, i)
}

func TestObserver(t *testing.T) {
	leakCheck(t)
	r := &recorder{}
	b := startBackend(t, func(*backend, grpc.ServerStream) error { return status.Error(codes.Aborted, "") })
	l := listen(t, "127.0.0.1:0")
	l.Close()
	s := startSidecar(t, options{
		engine:  func(c *grpcengine.Config) { c.Observer = r },
		routing: func(c *routing.Config) { c.Policy = routing.RoundRobin },
	})
	cc := dial(t, s.address)
	_, _ = unary(testContext(t), cc, "x")
	s.set(instance("dead", l.Addr().String()), instance("live", b.address))
	for range 2 { // round robin: one of the two begins with the dead one
		_, _ = unary(testContext(t), cc, "x")
	}
	s.quiet()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started != 3 || len(r.ended) != 3 {
		t.Fatalf("%d started, %d ended", r.started, len(r.ended))
	}
	if i := r.ended[0]; i.Code != codes.Unavailable || i.PeerID != "" || i.Method != method || i.Attempts != 0 {
		t.Errorf("the call without a peer: %+v", i)
	}
	attempts := 0
	for _, i := range r.ended[1:] {
		attempts += i.Attempts
		if i.Code != codes.Aborted || i.PeerID != "live" || i.PeerRegion != "fra" || i.Service != "app" || i.Latency <= 0 {
			t.Errorf("%+v", i)
		}
	}
	if attempts != 3 {
		t.Errorf("%d attempts, want 3", attempts)
	}
}

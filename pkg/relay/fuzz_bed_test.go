package relay_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/relay"
	"github.com/flyproxy/flyproxy/pkg/routing"
	"github.com/flyproxy/flyproxy/test/conformance/h2script"
	"github.com/flyproxy/flyproxy/test/conformance/leak"
)

// fuzzBed is an engine with a peer that answers, and a witness: a client connection that is there all the time.
type fuzzBed struct {
	router  *routing.Router
	engine  *relay.Engine
	address string
	good    *flatPeer
	witness *fuzzWitness
	hurt    bool // an input has begun with this witness and not come to rest
	joined  int
}

// fuzzLimits are small, so that inputs reach them.
var fuzzLimits = relay.Limits{HeaderBytes: 16 << 10, BufferedBytes: 1 << 20, ReplayBytes: 256 << 10, ControlFrames: 1000}

// fuzzMemory is what all of the process's objects may take. The limits, and what the test itself needs, come to a sixth of it; the
// fuzzer, where there is one, takes 100 MiB.
const fuzzMemory = 160 << 20

func newFuzzBed(f *testing.F) *fuzzBed {
	f.Helper()
	leak.Check(f, "flyproxy/pkg/relay.")
	router, err := routing.New(routing.Config{Service: "app", Policy: routing.RoundRobin,
		Headers: routing.Headers{Service: "flyproxy-service", ForceInstance: "fly-force-instance-id"}})
	if err != nil {
		f.Fatal(err)
	}
	engine, err := relay.New(relay.Config{Router: router, ConnectTimeout: 10 * time.Second, Limits: fuzzLimits})
	if err != nil {
		f.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	b := &fuzzBed{router: router, engine: engine, address: lis.Addr().String(), good: startFlatPeer(f)}
	served := make(chan error, 1)
	go func() { served <- engine.Serve(lis) }()
	f.Cleanup(func() {
		if b.witness != nil {
			_ = b.witness.nc.Close()
		}
		if err := errors.Join(engine.Close(), <-served); err != nil {
			f.Error(err)
		}
	})
	b.join()
	return b
}

// begin makes sure that there is a witness whose connection works. An input that has hurt the last one must not fail the next inputs.
func (b *fuzzBed) begin(t *testing.T) {
	t.Helper()
	if b.witness != nil {
		if !b.hurt {
			b.hurt = true // until it rests
			return
		}
		_ = b.witness.nc.Close()
	}
	c, err := dialFlat("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	b.witness, b.hurt = newFuzzWitness(c), true
	if err := c.calls(1); err != nil {
		t.Fatal(err)
	}
}

// join puts the good peer, and others, into the router's table.
func (b *fuzzBed) join(others ...registry.Entry) {
	b.joined++
	b.router.Update(&registry.View{Source: registry.FromRegistry, Version: uint64(b.joined),
		Entries: append([]registry.Entry{b.good.entry("app", "good")}, others...)})
}

// rests checks that everything is as it was: the witness's connection works, nothing is left of what the input did, and memory is
// bounded.
func (b *fuzzBed) rests(t *testing.T) {
	t.Helper()
	if err := b.witness.calls(1); err != nil {
		t.Fatalf("a call on another connection: %v", err)
	}
	deadline := time.Now().Add(flatPatience)
	for {
		st := b.engine.Stats()
		if st.InFlight == 0 && st.Clients <= 1 && st.BufferedBytes == 0 && st.ReplayBytes == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("what is left: %+v", st)
		}
		time.Sleep(100 * time.Microsecond)
	}
	if n := objects(); n > fuzzMemory {
		runtime.GC() // it may be garbage,
		runtime.GC() // or in pools
		if n = objects(); n > fuzzMemory {
			t.Fatalf("objects take %d octets", n)
		}
	}
	b.hurt = false
}

// objects is what objects take, those included that nobody needs any more.
func objects() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// fuzzWitness is a client connection that must never be hurt. All that comes on it is checked.
type fuzzWitness struct {
	*flatClient
	form  fuzzEnd
	dec   *hpack.Decoder
	block []byte
}

func newFuzzWitness(c *flatClient) *fuzzWitness {
	w := &fuzzWitness{flatClient: c, form: fuzzEnd{flatConn: c.flatConn}, dec: hpack.NewDecoder(4096, nil)}
	c.look = w.see
	return w
}

// see checks a frame's form, and that header blocks decode: the tables are in step.
func (w *fuzzWitness) see(f flatFrame) error {
	if err := w.form.check(&f); err != nil {
		return err
	}
	switch f.typ {
	case http2.FrameHeaders:
		w.block = append(w.block[:0], f.payload...)
	case http2.FrameContinuation:
		w.block = append(w.block, f.payload...)
	default:
		return nil
	}
	if !f.flags.Has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	if _, err := w.dec.DecodeFull(w.block); err != nil {
		return fmt.Errorf("a header block does not decode: %w", err)
	}
	return nil
}

// fuzzCalls makes n calls to the peer that is played, and awaits that each ends, however that may be.
func (w *fuzzWitness) fuzzCalls(n int) error {
	open := make(map[uint32]bool)
	for i := range n {
		open[w.stream] = true
		w.out = appendFlat(w.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, w.stream,
			h2script.Encode(h2script.Request("/fuzz.Service/Call", h2script.Field{Name: "flyproxy-service", Value: "fuzz"})...))
		w.out = appendFlat(w.out, http2.FrameData, http2.Flags(i%2), w.stream, flatMessage) // half of them stay open
		w.window -= int64(len(flatMessage))
		w.stream += 2
	}
	_ = w.nc.SetDeadline(time.Now().Add(flatPatience))
	for len(open) > 0 {
		if !w.parsed() {
			if err := w.flush(); err != nil {
				return err
			}
		}
		f, err := w.next()
		if err != nil {
			return fmt.Errorf("%d of %d calls have not ended: %w", len(open), n, err)
		}
		if err := w.usual(&f); err != nil {
			return err
		}
		switch f.typ {
		case http2.FrameRSTStream:
			delete(open, f.stream)
		case http2.FrameData, http2.FrameHeaders:
			if !open[f.stream] {
				return fmt.Errorf("%v came on stream %d, which is not open", f.typ, f.stream)
			}
			if f.flags.Has(http2.FlagDataEndStream) {
				delete(open, f.stream)
			}
		}
	}
	return nil
}

// fuzzPeer is the peer that does what an input says, on every connection that is made to it while the input is in force.
type fuzzPeer struct {
	lis   net.Listener
	tasks sync.WaitGroup

	// mu guards the fields below.
	mu      sync.Mutex
	input   []byte
	version int
	fault   error
	open    map[net.Conn]struct{}
}

func startFuzzPeer(f *testing.F) *fuzzPeer {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	p := &fuzzPeer{lis: lis, open: make(map[net.Conn]struct{})}
	p.tasks.Go(p.acceptAll)
	f.Cleanup(func() {
		_ = lis.Close()
		_ = p.stop()
		p.tasks.Wait()
	})
	return p
}

func (p *fuzzPeer) acceptAll() {
	for {
		nc, err := p.lis.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		input := p.input
		p.open[nc] = struct{}{}
		p.mu.Unlock()
		p.tasks.Go(func() { p.serve(nc, input) })
	}
}

// play puts another input in force.
func (p *fuzzPeer) play(input []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.input, p.fault = input, nil
	p.version++
}

// stop closes all connections and gives what the engine did wrong on one.
func (p *fuzzPeer) stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for nc := range p.open {
		_ = nc.Close()
	}
	return p.fault
}

// entry is a record that the router has not seen before, so the engine begins anew with it.
func (p *fuzzPeer) entry() registry.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return registry.Entry{Instance: registry.Instance{Service: "fuzz", ID: "fuzz", Incarnation: fmt.Sprint(p.version), Schema: 1,
		Address: p.lis.Addr().String(), State: registry.Serving}}
}

// serve plays the input on one connection.
func (p *fuzzPeer) serve(nc net.Conn, input []byte) {
	_ = nc.SetDeadline(time.Now().Add(flatPatience))
	fault := playPeer(nc, input)
	_ = nc.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, nc)
	if p.fault == nil {
		p.fault = fault
	}
}

// playPeer is one connection's part.
func playPeer(nc net.Conn, input []byte) error {
	c := &fuzzEnd{flatConn: newFlatConn(nc)}
	manner := fuzzManner(input[0]) % fuzzManners
	if manner != fuzzNoise {
		c.out = appendFlat(c.out, http2.FrameSettings, 0, 0, nil)
		if c.flush() != nil {
			return nil
		}
	}
	if manner != fuzzNoise || input[0]&8 == 0 { // noise may also come before the preface was read
		if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
			return nil
		}
	}
	if manner == fuzzAfterCall || manner == fuzzOnCall {
		for called := false; !called && !c.over; {
			f, _ := c.read()
			called = f.typ == http2.FrameHeaders
		}
	}
	if !c.over {
		c.play(manner == fuzzScripted || manner == fuzzOnCall, input[1:], false)
	}
	c.end() // the engine reads all of it; then no call waits for ever
	if manner == fuzzNoise {
		return nil
	}
	return c.fault
}

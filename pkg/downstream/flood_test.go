package downstream_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/downstream"
	"github.com/flyproxy/flyproxy/test/conformance/leak"
)

// Clients that say nothing, or half of it, hold nobody up, and end with the time limit. As many as are allowed may do so; one more
// costs the oldest its place.
func TestSilentHandshakes(t *testing.T) {
	f := newFiles(t)
	const silent = 20
	const limit = 3 * time.Second
	g := guard(t, listen(t, "127.0.0.1:0"), downstream.Config{TLS: f.tls(false), HandshakeTimeout: limit, MaxHandshakes: silent + 1})
	began := time.Now()
	var quiet []net.Conn
	for i := range silent {
		nc := dial(t, g.address, "")
		if i%2 == 0 {
			_, _ = nc.Write([]byte{0x16, 3, 1, 2, 0, 1}) // the beginning of a ClientHello
		}
		quiet = append(quiet, nc)
	}
	if err := speak(t, g, f.client()); err != nil {
		t.Errorf("beside silent ones: %v", err)
	}
	quiet = append(quiet, dial(t, g.address, "")) // takes the last place
	eventually(t, "it is under way", func() bool {
		nc := dial(t, g.address, "")
		quiet = append(quiet, nc)
		return g.Refused()["too_many_handshakes"] > 0
	})
	if _, err := quiet[0].Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) >= limit {
		t.Errorf("the oldest one ended after %v: %v", time.Since(began), err)
	}
	for _, nc := range quiet[1:] {
		_, err := io.ReadAll(nc)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a silent client stays")
		}
	}
	if took := time.Since(began); took < limit {
		t.Errorf("silent clients ended after %v", took)
	}
	eventually(t, "all are counted", func() bool {
		r := g.Refused()
		return r["handshake_timeout"] == silent+1 && r["too_many_handshakes"] == uint64(len(quiet))-silent-1
	})
	if err := speak(t, g, f.client()); err != nil {
		t.Errorf("after silent ones: %v", err)
	}
}

// All handshakes had one bound, and who came when it was reached was refused: one client with as many silent connections shut the gate
// for everybody, limits.handshake_timeout at a time.
func TestOneClientShutNobodyOut(t *testing.T) {
	f := newFiles(t)
	const most = 16
	g := guard(t, listen(t, "127.0.0.1:0"), downstream.Config{TLS: f.tls(false), HandshakeTimeout: time.Hour, MaxHandshakes: most})
	early := dial(t, g.address, "127.0.0.3") // it connects before the flood, and is slow
	for range 4 * most {
		_ = dial(t, g.address, "127.0.0.2")
	}
	eventually(t, "the flood is over the bound", func() bool { return g.Refused()["too_many_handshakes"] == 3*most+1 })
	for name, nc := range map[string]net.Conn{
		"a client that was there before": early, "another client": dial(t, g.address, ""), "the same client": dial(t, g.address, "127.0.0.2"),
	} {
		if err := speakOn(t, g, nc, f.client()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.only(t, "too_many_handshakes", 3*most+3) // the one handshake more of each of the two, and the early one's
	if !strings.Contains(g.log.String(), "limits.max_connections allows") || strings.Count(g.log.String(), "\n") != 1 {
		t.Error(g.log)
	}
}

// A flood that goes on keeps nobody out either.
func TestFloodThatGoesOn(t *testing.T) {
	f := newFiles(t)
	g := guard(t, listen(t, "127.0.0.1:0"), downstream.Config{TLS: f.tls(false), HandshakeTimeout: time.Hour, MaxHandshakes: 16})
	over := make(chan struct{})
	var flood sync.WaitGroup
	defer flood.Wait()
	defer close(over)
	flood.Go(func() {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		pace := time.NewTicker(time.Millisecond) // it is to hold places, and not all of the processor
		defer pace.Stop()
		var open []net.Conn
		defer func() {
			for _, nc := range open {
				_ = nc.Close()
			}
		}()
		for {
			select {
			case <-over:
				return
			case <-pace.C:
			}
			if nc, err := d.Dial("tcp", g.address); err == nil { // else its reset came early
				open = append(open, nc)
			}
		}
	})
	eventually(t, "the flood is over the bound", func() bool { return g.Refused()["too_many_handshakes"] > 100 })
	var longest time.Duration
	for range 5 {
		began := time.Now()
		if err := speak(t, g, f.client()); err != nil {
			t.Fatalf("beside the flood: %v", err)
		}
		longest = max(longest, time.Since(began))
	}
	t.Logf("%d were refused; the longest of 5 calls of another client took %v", g.Refused()["too_many_handshakes"], longest)
}

// Where nobody accepts, clients beyond the bound wait, and the end waits for none of them.
func TestCloseWhileNobodyAccepts(t *testing.T) {
	leak.Check(t, "flyproxy/pkg/downstream")
	f := newFiles(t)
	const most = 2
	gate := downstream.New(downstream.Config{TLS: f.tls(false), HandshakeTimeout: time.Hour, MaxHandshakes: most})
	lis := gate.Guard(listen(t, "127.0.0.1:0"))
	first := make(chan net.Conn, 1)
	go func() {
		nc, _ := lis.Accept() // begins the accepting; no other follows
		first <- nc
	}()
	var all []net.Conn
	for range 1 + most {
		tc := tls.Client(dial(t, lis.Addr().String(), ""), f.client())
		must(t, tc.Handshake())
		all = append(all, tc)
	}
	nc := <-first
	if nc == nil {
		t.Fatal("nobody was accepted")
	}
	defer nc.Close()
	waits := tls.Client(dial(t, lis.Addr().String(), ""), f.client())
	must(t, waits.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	if err := waits.Handshake(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one beyond the bound: %v", err)
	}
	began := time.Now()
	must(t, lis.Close())
	if took := time.Since(began); took > patience/2 {
		t.Errorf("closing took %v", took)
	}
	_ = nc.Close()
	for _, nc := range all {
		if _, err := nc.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection that was not accepted: %v", err)
		}
	}
	for reason, n := range gate.Refused() {
		if n != 0 {
			t.Errorf("%d refused: %s", n, reason)
		}
	}
}

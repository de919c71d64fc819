package registrar_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registrar"
)

// echo sends back what it gets; when its peer has ended it sends a last word and ends too.
func echo(t *testing.T, address string) net.Listener {
	t.Helper()
	l := listen(t, address)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
				io.WriteString(c, "last word")
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l
}

func withoutHealth(c *registrar.Config) {
	c.Health.Mode = registrar.HealthNone
	c.GRPCServices = []string{}
}

func TestSpliceIsExactAndKeepsHalfClose(t *testing.T) {
	l := echo(t, "127.0.0.1:0")
	advertised := onV6(l.Addr().String())
	r := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
	r.awaitPhase(t, registrar.Registered, time.Second)
	sent := make([]byte, 5<<20+123)
	rand.Read(sent)
	c := dialTCP(t, advertised)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, append(sent, "last word"...)) {
		t.Errorf("got %d bytes, want %d and the last word, unchanged", len(got), len(sent))
	}
	await(t, "connection ended", time.Second, func() bool { return r.Status().Inbound.Connections == 0 })
	s := r.Status().Inbound
	// The probe before the registration came through too, and got the last word or hung up before.
	if s.BytesToApp != uint64(len(sent)) || s.BytesFromApp < uint64(len(got)) || s.Accepted != 2 {
		t.Errorf("status %+v", s)
	}
}

func dialTCP(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn)
}

func TestSplicePassesResetsOn(t *testing.T) {
	t.Run("from the peer", func(t *testing.T) {
		l := listen(t, "127.0.0.1:0")
		defer l.Close()
		advertised := onV6(l.Addr().String())
		r := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
		r.awaitPhase(t, registrar.Registered, time.Second)
		l.(*net.TCPListener).SetDeadline(time.Now().Add(5 * time.Second))
		c := dialTCP(t, advertised)
		io.WriteString(c, "x")
		for {
			app, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			app.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.ReadFull(app, make([]byte, 1)); err != nil {
				app.Close() // the registrar's own probe
				continue
			}
			c.SetLinger(0)
			c.Close()
			if _, err := app.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the app reads %v", err)
			}
			app.Close()
			break
		}
	})
	t.Run("the app refuses", func(t *testing.T) {
		l := echo(t, "127.0.0.1:0")
		advertised := onV6(l.Addr().String())
		r := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
		r.awaitPhase(t, registrar.Registered, time.Second)
		l.Close()
		c, err := net.Dial("tcp", advertised)
		if err == nil { // else the reset came before Dial was done
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			_, err = c.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer sees %v", err)
		}
		await(t, "refusal counted", time.Second, func() bool { return r.Status().Inbound.Refused == 1 })
	})
}

func TestDrainDeregistersFirstAndKeepsConnections(t *testing.T) {
	l := echo(t, "127.0.0.1:0")
	advertised := onV6(l.Addr().String())
	r := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
	r.awaitPhase(t, registrar.Registered, time.Second)
	c := dialTCP(t, advertised)
	talk := func() {
		t.Helper()
		io.WriteString(c, "ping")
		buf := make([]byte, 4)
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ping" {
			t.Errorf("echo %q, %v", buf, err)
		}
	}
	talk()
	var drained atomic.Bool
	done := make(chan error, 1)
	go func() {
		err := r.Drain(context.Background())
		drained.Store(true)
		done <- err
	}()
	r.awaitPhase(t, registrar.Withdrawn, time.Second)
	await(t, "listener closed", time.Second, func() bool { return !r.Status().Inbound.Listening })
	talk()
	if drained.Load() || r.Status().Reason != "draining" {
		t.Errorf("drained %v, reason %q", drained.Load(), r.Status().Reason)
	}
	c.CloseWrite()
	if rest, err := io.ReadAll(c); err != nil || string(rest) != "last word" {
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Errorf("a second Drain: %v", err)
	}
}

func TestDrainIsBounded(t *testing.T) {
	l := echo(t, "127.0.0.1:0")
	advertised := onV6(l.Addr().String())
	r := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
	r.awaitPhase(t, registrar.Registered, time.Second)
	c := dialTCP(t, advertised)
	io.WriteString(c, "x")
	io.ReadFull(c, make([]byte, 1))
	hang := make(chan struct{})
	r.store.do(func() { r.store.hang = hang })
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := r.Drain(ctx)
	if d := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || d < 300*time.Millisecond || d > time.Second {
		t.Errorf("Drain: %v after %v", err, d)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection still stands")
	}
}

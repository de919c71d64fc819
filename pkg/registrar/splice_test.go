package registrar_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
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
	r.awaitPhase(t, registrar.Registered)
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
	await(t, "connection ended", func() bool { return r.Status().Inbound.Connections == 0 })
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
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func TestSplicePassesResetsOn(t *testing.T) {
	t.Run("from the peer", func(t *testing.T) {
		l := listen(t, "127.0.0.1:0")
		defer l.Close()
		advertised := onV6(l.Addr().String())
		r := startRegistrar(t, l.Addr().String(), advertised, withoutHealth)
		r.awaitPhase(t, registrar.Registered)
		l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
		c := dialTCP(t, advertised)
		io.WriteString(c, "x")
		for {
			app, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			app.SetDeadline(time.Now().Add(patience))
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
		r.awaitPhase(t, registrar.Registered)
		l.Close()
		c, err := net.Dial("tcp", advertised)
		if err == nil { // else the reset came before Dial was done
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			_, err = c.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer sees %v", err)
		}
		await(t, "refusal counted", func() bool { return r.Status().Inbound.Refused == 1 })
	})
}

package downstream_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/downstream"
	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
	"github.com/flyproxy/flyproxy/pkg/grpcengine"
	"github.com/flyproxy/flyproxy/pkg/relay"
)

// Both data planes keep their whole contract behind TLS: streams, half-closes, large messages, resets, goodbyes. Clients speak plain text
// to a tunnel, which speaks TLS to the gate.
func TestContractOverTLS(t *testing.T) {
	for name, subject := range map[string]enginetest.Subject{
		"relay": {
			New: func(t testing.TB, o enginetest.Options) engine.Engine {
				e, err := relay.New(relay.Config{
					Router: o.Router, Observer: o.Observer, ConnectTimeout: o.ConnectTimeout, MaxConnectionsPerPeer: o.MaxConnectionsPerPeer,
					IdleTimeout: o.IdleTimeout, AllowedNetworks: o.AllowedNetworks, Own: o.Own,
				})
				must(t, err)
				return e
			},
			Differences: enginetest.Differences{RejectsConnectionHeaders: true, TellsDeadlines: true, PassesResets: true},
		},
		"grpc": {New: func(t testing.TB, o enginetest.Options) engine.Engine {
			e, err := grpcengine.New(grpcengine.Config{
				Router: o.Router, Observer: o.Observer, ConnectTimeout: o.ConnectTimeout, MaxConnectionsPerPeer: o.MaxConnectionsPerPeer,
				IdleTimeout: o.IdleTimeout, AllowedNetworks: o.AllowedNetworks, Own: o.Own,
			})
			must(t, err)
			return e
		}},
	} {
		f := newFiles(t)
		cert, key := f.authority.Issue("client")
		server, client := f.tls(true), f.client(cert, key)
		subject.Guard = func(t testing.TB, entrance net.Listener) net.Listener {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			gate := downstream.New(downstream.Config{
				Networks: prefixes("127.0.0.0/8"), TLS: server, HandshakeTimeout: patience, MaxHandshakes: 1000,
			})
			return newTunnel(t, entrance, gate.Guard(inner), client)
		}
		t.Run(name, func(t *testing.T) { enginetest.Run(t, subject) })
	}
}

// tunnel is the guarded listener, with what comes in through an entrance.
type tunnel struct {
	net.Listener
	entrance net.Listener
	client   *tls.Config
	tasks    sync.WaitGroup
}

func newTunnel(t testing.TB, entrance, inner net.Listener, client *tls.Config) *tunnel {
	u := &tunnel{Listener: inner, entrance: entrance, client: client}
	u.tasks.Add(1)
	go u.accept()
	t.Cleanup(func() {
		_ = u.Close()
		u.tasks.Wait()
	})
	return u
}

func (u *tunnel) Close() error { return errors.Join(u.entrance.Close(), u.Listener.Close()) }

func (u *tunnel) accept() {
	defer u.tasks.Done()
	for {
		nc, err := u.entrance.Accept()
		if err != nil {
			return
		}
		u.tasks.Add(1)
		go u.carry(nc.(*net.TCPConn))
	}
}

// carry passes octets and ends of one connection both ways. A reset passes as one.
func (u *tunnel) carry(near *net.TCPConn) {
	defer u.tasks.Done()
	defer near.Close()
	far, err := tls.Dial("tcp", u.Addr().String(), u.client)
	if err != nil {
		_ = near.SetLinger(0)
		return
	}
	defer far.Close()
	var both sync.WaitGroup
	both.Go(func() {
		if _, err := io.Copy(far, near); err != nil {
			_ = far.NetConn().(*net.TCPConn).SetLinger(0)
			_ = far.NetConn().Close()
			return
		}
		_ = far.CloseWrite()
	})
	both.Go(func() {
		if _, err := io.Copy(near, far); err != nil {
			_ = near.SetLinger(0)
			_ = near.Close()
			return
		}
		_ = near.CloseWrite()
	})
	both.Wait()
}

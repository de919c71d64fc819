package downstream_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/downstream"
)

// machines gives its connections the addresses of Machines, which this host does not have. One Machine is at 127.0.0.2, and takes
// another of the addresses that are its own for each connection; the other one is everywhere else.
type machines struct{ net.Listener }

func (l machines) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	from := nc.RemoteAddr().(*net.TCPAddr).AddrPort()
	at := netip.MustParseAddr("fdaa:0:18:a7b:7d:f066:b83b:2")
	if from.Addr() == netip.MustParseAddr("127.0.0.2") {
		own := netip.MustParseAddr("fdaa:0:18:a7b:9a:1:77aa:2").As16()
		binary.BigEndian.PutUint16(own[14:], from.Port())
		at = netip.AddrFrom16(own)
	}
	return &remote{nc, net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, from.Port()))}, nil
}

type remote struct {
	net.Conn
	at *net.TCPAddr
}

func (r *remote) RemoteAddr() net.Addr { return r.at }

// A /64 counted as one client, and on 6PN Machines of one organization share it: what one of them flooded the gate with cost another one
// its handshake.
func TestMachineOfTheSameNetworkShutsNobodyOut(t *testing.T) {
	f := newFiles(t)
	const most = 16
	g := guard(t, machines{listen(t, "127.0.0.1:0")}, downstream.Config{
		Networks: prefixes("fdaa::/16"), TLS: f.tls(false), HandshakeTimeout: time.Hour, MaxHandshakes: most,
	})
	early := dial(t, g.address, "127.0.0.3") // it connects before the flood, and is slow
	for range 4 * most {
		_ = dial(t, g.address, "127.0.0.2")
	}
	eventually(t, "the flood is over the bound", func() bool { return g.Refused()["too_many_handshakes"] == 3*most+1 })
	if err := speakOn(t, g, early, f.client()); err != nil {
		t.Errorf("a Machine that was there before: %v", err)
	}
	if err := speakOn(t, g, dial(t, g.address, "127.0.0.3"), f.client()); err != nil {
		t.Errorf("the same one, again: %v", err)
	}
}

//go:build linux

package netns

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
)

// Machine is a namespace with an fdaa:: address of its own, as a Fly Machine has, and with nothing of it on IPv4.
type Machine struct{ NS, Addr string }

// routers numbers them.
var routers atomic.Int32

// Routed makes machines that reach each other through a router in a namespace of its own. The link of a machine bears its namespace's
// name at both ends.
func Routed(t testing.TB, n int) (router string, machines []Machine) {
	t.Helper()
	router = fmt.Sprintf("fp%dr%d", os.Getpid(), routers.Add(1)) // tests that use this run side by side
	Add(t, router)
	err := Within(router, func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		m := Machine{NS: fmt.Sprint(router, i), Addr: fmt.Sprintf("fdaa:0:%d::2", i+1)}
		if i > 9 {
			t.Fatal("the names of links are short: ten machines at most")
		}
		Add(t, m.NS)
		gateway := fmt.Sprintf("fdaa:0:%d::1", i+1)
		IP(t, "link", "add", m.NS, "netns", m.NS, "type", "veth", "peer", "name", m.NS, "netns", router)
		for _, end := range []struct{ ns, addr string }{{m.NS, m.Addr}, {router, gateway}} {
			IP(t, "-n", end.ns, "addr", "add", end.addr+"/64", "dev", m.NS, "nodad")
			IP(t, "-n", end.ns, "link", "set", m.NS, "up")
		}
		IP(t, "-n", m.NS, "route", "add", "default", "via", gateway)
		machines = append(machines, m)
	}
	return router, machines
}

package sidecar

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flyproxy/flyproxy/pkg/fly"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// loops tells which instances are no apps but the way back to us, so that a call sent there would come round again: our own listener,
// and those of the other Machines of our process group, which run what we run. Its methods may be called concurrently.
type loops struct {
	own   []netip.AddrPort // the listeners on TCP
	ports []string         // theirs
	app   string
	// group is our process group; empty where it says nothing of who listens: in a sidecar, or where it is not known.
	group string

	interfaces func() []netip.Addr // hostAddresses, or a test's

	// mu guards the fields below, which are the host's addresses as they were read at a time.
	mu      sync.Mutex
	addrs   []netip.Addr // never changed in place; nil before they are first read
	read    time.Time
	reading bool // somebody reads them anew
}

// addrsFor is how long the host's addresses are taken to stay as they are.
const addrsFor = 10 * time.Second

func (s *Sidecar) makeLoops() error {
	l := &loops{app: s.cfg.Fly.App, interfaces: hostAddresses}
	for _, lis := range s.listeners {
		if at, ok := lis.Addr().(*net.TCPAddr); ok {
			ap := at.AddrPort()
			l.own = append(l.own, netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()))
			l.ports = append(l.ports, strconv.Itoa(int(ap.Port())))
		}
	}
	if s.isGateway() {
		l.group = s.cfg.Registration.ProcessGroup
	}
	s.loops = l
	return nil
}

// why is why an instance gets no calls from us; empty where it may. A name is looked at again once it is resolved: see ours.
func (l *loops) why(in *registry.Instance) string {
	host, port, err := net.SplitHostPort(in.Address)
	if err != nil || !slices.Contains(l.ports, port) {
		return ""
	}
	const self = "its address is our own listener"
	hosts := []string{host}
	switch strings.ToLower(host) {
	case fly.LocalName:
		return self
	case "localhost":
		hosts = []string{"127.0.0.1", "::1"}
	}
	for _, h := range hosts {
		if at, err := netip.ParseAddrPort(net.JoinHostPort(h, port)); err == nil && l.ours(at) {
			return self
		}
	}
	if l.group != "" && in.App == l.app && in.ProcessGroup == l.group {
		return "it is on the port that we listen on, in a Machine of our own process group (" + l.group + "): another gateway"
	}
	return ""
}

// ours tells whether who dials at reaches one of our listeners.
func (l *loops) ours(at netip.AddrPort) bool {
	ip := at.Addr().Unmap().WithZone("")
	for _, o := range l.own {
		switch on := o.Addr(); {
		case o.Port() != at.Port() || on.Is4() && ip.Is6():
		case on == ip:
			return true
		case on.IsUnspecified() && (ip.IsLoopback() || ip.IsUnspecified() || slices.Contains(l.host(), ip)): // [::] takes IPv4 too
			return true
		case ip.IsUnspecified() && on.IsLoopback() && on.Is4() == ip.Is4(): // which is where it leads to
			return true
		}
	}
	return false
}

// host gives the addresses of this host. They are read without the lock: the kernel has them, and whoever else asks gets the last ones
// meanwhile, so that no call waits.
func (l *loops) host() []netip.Addr {
	l.mu.Lock()
	now := time.Now()
	stale := l.read.IsZero() || now.Sub(l.read) > addrsFor
	if !stale || l.addrs != nil && l.reading {
		defer l.mu.Unlock()
		return l.addrs
	}
	l.reading = true
	l.mu.Unlock()

	addrs := l.interfaces()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.read, l.addrs, l.reading = now, addrs, false
	return addrs
}

// hostAddresses reads the addresses of this host from the kernel. It is not nil; without an answer it is empty: loopback is known at the
// least.
func hostAddresses() []netip.Addr {
	all, _ := net.InterfaceAddrs()
	addrs := make([]netip.Addr, 0, len(all))
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, ip.Unmap())
			}
		}
	}
	return addrs
}

package doctor

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// gatewayClient chooses how to be a client of the gateway that runs and listens on address: from an address that it allows. Its list is
// as much for us as for anybody, and who tries in vain is in its log. It is not ok where this host has no such address. Of any other
// listener it says nothing.
func (e *examination) gatewayClient(ctx context.Context, address string) (dial string, ok bool) {
	dial = dialable(address)
	if !e.gateway() || !e.answered || e.status.Self.Mode != config.ModeGateway {
		return dial, true
	}
	host, portText, err := net.SplitHostPort(address)
	port, portErr := strconv.ParseUint(portText, 10, 16)
	if err != nil || portErr != nil {
		return dial, true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		ctx, cancel := context.WithTimeout(ctx, hereLimit)
		defer cancel()
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil || len(found) == 0 {
			return dial, true // the dial says what is wrong
		}
		ip = found[0].Unmap()
	}
	if !slices.Contains(e.status.Self.Listen, netip.AddrPortFrom(ip, uint16(port)).String()) {
		return dial, true
	}
	for _, from := range e.reaching(ip) { // who dials an address of its own host has that address
		if registry.Allowed(e.cfg.Downstream.Networks(), from) {
			return netip.AddrPortFrom(from, uint16(port)).String(), true
		}
	}
	return "", false
}

// reaching are the addresses of this host at which a listener on ip is reached.
func (e *examination) reaching(ip netip.Addr) []netip.Addr {
	if !ip.IsUnspecified() {
		return []netip.Addr{ip}
	}
	own, err := e.o.Addresses()
	if err != nil {
		own = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return slices.DeleteFunc(own, func(a netip.Addr) bool { return a.IsLinkLocalUnicast() || ip.Is4() && !a.Is4() })
}

package fly

import "net/netip"

// PrivateNetwork is the prefix of all 6PN addresses (https://fly.io/docs/networking/private-networking/).
func PrivateNetwork() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0xaa}), 16)
}

// MachineNetwork is the part of 6PN that the Machine with that address has for itself; it is not ok for an address outside of 6PN. An
// address is 16 bits of prefix, 32 of the organization's network, 32 of the host, 32 of the Machine, and 16 that are the Machine's own
// (https://fly.io/docs/networking/private-networking/#6pn-addresses-in-detail). So a /64 may be shared by many Machines.
func MachineNetwork(a netip.Addr) (p netip.Prefix, ok bool) {
	if !PrivateNetwork().Contains(a) {
		return netip.Prefix{}, false
	}
	p, err := a.Prefix(112)
	return p, err == nil
}

// LocalName is the name under which a Machine's /etc/hosts has its own 6PN address
// (https://fly.io/docs/networking/private-networking/).
const LocalName = "fly-local-6pn"

// The headers of Fly's own proxy that flyproxy honours on 6PN too, and flyproxy's own. They are gRPC metadata keys, so they
// are in lower case (https://fly.io/docs/networking/dynamic-request-routing/).
const (
	// HeaderForceInstance names the only instance that may take the call.
	HeaderForceInstance = "fly-force-instance-id"
	// HeaderPreferInstance names the instance that takes the call if it can.
	HeaderPreferInstance = "fly-prefer-instance-id"
	// HeaderForceRegion lists, separated by commas, the only regions that may take the call.
	HeaderForceRegion = "fly-force-region"
	// HeaderPreferRegion lists, separated by commas, the regions that take the call if they can.
	HeaderPreferRegion = "fly-prefer-region"
	// HeaderService is flyproxy's own: the service that the call is for.
	HeaderService = "flyproxy-service"
)

package config

import (
	"net/netip"

	"github.com/flyproxy/flyproxy/pkg/fly"
)

// networks gives what checkNetworks has found good.
func networks(said []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range said {
		if prefix, err := parseNetwork(text); err == nil {
			all = append(all, prefix)
		}
	}
	return all
}

// parseNetwork reads a prefix. One of IPv4-mapped addresses (RFC 4291 §2.5.5.2) is the one of IPv4 that it stands for: addresses are
// compared in that form.
func parseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, err
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

func (l *loader) checkNetworks(key string, said []string) {
	for _, one := range said {
		if _, err := parseNetwork(one); err != nil {
			l.faultAt(key, one, "not a network",
				"write an address, a slash and the length of the prefix, such as "+fly.PrivateNetwork().String())
		}
	}
}

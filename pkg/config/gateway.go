package config

import (
	"net/netip"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/fly"
)

// gatewayListen is where a gateway listens unless told otherwise: on its Machine's 6PN address. Where that name is unknown it is
// gatewayFallback.
const (
	gatewayListen   = fly.LocalName + ":50052"
	gatewayFallback = "[::]:50052"
)

// gatewayClients are the networks from which a gateway's clients may connect unless told otherwise.
func gatewayClients() []string {
	return []string{fly.PrivateNetwork().String(), "127.0.0.0/8", "::1/128"}
}

// Registers tells whether this process registers its apps. A gateway has none.
func (c *Config) Registers() bool { return c.Mode == ModeSidecar && c.Registration.Enabled }

// ListenFallback is the one address to listen on where the name in Listen is unknown to this host. It is not ok where somebody has said
// what to listen on: that is meant.
func (c *Config) ListenFallback() (address string, ok bool) {
	return gatewayFallback, c.Mode == ModeGateway && c.origins["listen"].level <= fromDefault
}

// usualListener is an address that would do for Listen.
func (c *Config) usualListener() string {
	if c.Mode == ModeGateway {
		return gatewayListen
	}
	return "localhost:50052"
}

// Networks are AllowedNetworks.
func (d Downstream) Networks() []netip.Prefix { return networks(d.AllowedNetworks) }

// resolveMode takes a gateway's apps away. They are no fault: on Fly one [env] is for all process groups.
func (l *loader) resolveMode(cfg *Config) {
	if cfg.Mode != ModeGateway || len(cfg.Apps) == 0 {
		return
	}
	l.warn("apps", "not registered: this is a gateway (mode), which has no apps; they belong to a sidecar in their own Machine")
	cfg.Apps = nil
}

// checkDownstream looks at what a gateway's clients must be. To a sidecar it says that it is not used.
func (l *loader) checkDownstream(cfg *Config) {
	if cfg.Mode != ModeGateway {
		l.warnNoGateway(cfg)
		return
	}
	const key = "downstream.allowed_networks"
	d := &cfg.Downstream
	l.checkNetworks(key, d.AllowedNetworks)
	if len(d.AllowedNetworks) == 0 && !l.refused[key] && !l.blind {
		l.faultAt(key, "", "no network: nobody could connect", "list those of the clients, such as "+strings.Join(gatewayClients(), ","))
	}
	mutual := d.TLS.Enabled && d.TLS.ClientCAFile != ""
	for _, n := range d.Networks() {
		if n.Bits() == 0 && !mutual {
			l.warn(key, "%s: whoever reaches this port may call every service; with downstream.tls.client_ca_file only those may that have "+
				"a certificate", n)
		}
	}
	l.checkDownstreamTLS(d.TLS)
	l.warnFewClients(cfg)
}

// warnNoGateway warns of what only a gateway does.
func (l *loader) warnNoGateway(cfg *Config) {
	for _, f := range l.root.leaves() {
		if !strings.HasPrefix(f.path, "downstream.") || l.origins[f.path].level <= fromDefault || l.refused[f.path] {
			continue
		}
		if format(fieldAt(cfg, f.path)) != f.def { // a copy of the sample has the defaults
			l.warn(f.path, "not used: a sidecar listens on loopback and unix sockets only; this is for mode: gateway")
		}
	}
}

// warnFewClients warns of a gateway that no other Machine reaches, and of TLS on no listener.
func (l *loader) warnFewClients(cfg *Config) {
	tcp, near := 0, 0
	for _, said := range cfg.Listen {
		address, wrong := parseAddress(said, true)
		if _, socket := SocketPath(said); socket || wrong != nil {
			continue
		}
		tcp++
		if loopback(address.host) {
			near++
		}
	}
	if near == tcp && len(cfg.Listen) > 0 && !l.refused["listen"] {
		l.warn("listen", "a gateway on loopback and unix sockets: no other Machine reaches it; %s would do", gatewayListen)
	}
	if tcp == 0 && len(cfg.Listen) > 0 && cfg.Downstream.TLS.Enabled {
		l.warn("downstream.tls.enabled", "not used: listen has unix sockets only, which take plain text from whom their files' permissions let in")
	}
}

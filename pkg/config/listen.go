package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// socketScheme begins an address of a unix socket, as in gRPC's own names for them
// (https://github.com/grpc/grpc/blob/master/doc/naming.md).
const socketScheme = "unix://"

// DefaultControlSocket is Admin.Socket on Fly, unless it is said otherwise.
const DefaultControlSocket = "unix:///run/flyproxy.sock"

// maxSocketPath is what fits into a socket's address on Linux, without the byte that ends it (unix(7)).
const maxSocketPath = 107

// SocketPath is the path of an address of Listen that is a unix socket's.
func SocketPath(address string) (path string, ok bool) {
	return strings.CutPrefix(address, socketScheme)
}

// ListenAddresses are Listen with every localhost replaced by 127.0.0.1 and ::1: a client that dials localhost may try either
// first (RFC 6761 §6.3 allows both). Unix sockets stay as they are: see [SocketPath].
func (c *Config) ListenAddresses() []string {
	var all []string
	for _, address := range c.Listen {
		all = append(all, expandLocalhost(address)...)
	}
	return all
}

// SocketFileMode is SocketMode as a number.
func (c *Config) SocketFileMode() fs.FileMode {
	n, _ := strconv.ParseUint(c.SocketMode, 8, 16) // Load has checked it
	return fs.FileMode(n)
}

// a listener is one of our own addresses. It has a path where it is a unix socket.
type listener struct {
	key, said string
	hostPort
	path string
}

func (l *loader) checkListeners(cfg *Config) {
	if len(cfg.Listen) == 0 {
		l.faultAt("listen", "", "no address", "write at least one, such as "+cfg.usualListener())
	}
	var own []listener
	sockets := false
	for _, said := range cfg.Listen {
		if scheme, _, _ := strings.Cut(said, ":"); scheme == "unix" || scheme == "unix-abstract" {
			sockets = true
			if wrong := checkSocket(said); wrong != nil {
				l.faultAt("listen", said, wrong.problem, wrong.fix)
				continue
			}
			file, _ := SocketPath(said)
			own = append(own, listener{key: "listen", said: said, path: path.Clean(file)})
			continue
		}
		address, wrong := parseAddress(said, true)
		switch {
		case strings.HasPrefix(said, "/"):
			l.faultAt("listen", said, "a path without unix:// before it", "write "+clip(socketScheme+said))
			continue
		case wrong != nil:
			l.faultAt("listen", said, wrong.problem, wrong.fix)
			continue
		case cfg.Mode == ModeSidecar && !loopback(address.host):
			l.faultAt("listen", said,
				"not a loopback address: in sidecar mode whoever reaches this port can call every service, as the app may",
				fmt.Sprintf("write localhost:%d", address.port))
		}
		own = append(own, listeners("listen", said)...)
	}
	if !sockets && l.origins["listen_socket_mode"].level > fromDefault && cfg.SocketMode != l.lookup("listen_socket_mode").def {
		l.warn("listen_socket_mode", "not used: listen has no unix socket")
	}
	if _, wrong := parseAddress(cfg.Admin.Listen, true); wrong != nil {
		l.faultAt("admin.listen", cfg.Admin.Listen, wrong.problem, wrong.fix)
	} else {
		own = append(own, listeners("admin.listen", cfg.Admin.Listen)...)
	}
	if said := cfg.Admin.Socket; said != "" {
		if wrong := checkSocket(said); wrong != nil {
			l.faultAt("admin.socket", said, wrong.problem, wrong.fix)
		} else {
			file, _ := SocketPath(said)
			own = append(own, listener{key: "admin.socket", said: said, path: path.Clean(file)})
		}
	}
	if embedded, wrong := parseAddress(cfg.Registry.Embedded.Address, false); wrong != nil {
		l.faultAt("registry.embedded.address", cfg.Registry.Embedded.Address, wrong.problem, wrong.fix)
	} else if !loopback(embedded.host) {
		l.faultAt("registry.embedded.address", cfg.Registry.Embedded.Address,
			"not a loopback address: the embedded Redis asks nobody for a password", "write an address such as 127.0.0.1:56379")
	} else if cfg.Registry.Store == StoreEmbedded {
		own = append(own, listeners("registry.embedded.address", cfg.Registry.Embedded.Address)...)
	}
	l.checkDistinct(own)
	l.checkLoops(cfg, own)
}

// checkSocket takes unix:// and an absolute path that the system can bind.
func checkSocket(said string) *bad {
	file, ok := SocketPath(said)
	fix := "write unix:// and an absolute path, such as unix:///run/flyproxy.sock"
	switch {
	case strings.HasPrefix(said, "unix-abstract:"): // a socket without a file has no permissions: whoever is on the host may connect
		return &bad{"a socket without a file, which everybody on this host may use", fix}
	case !ok || !strings.HasPrefix(file, "/"):
		return &bad{"not an absolute path", fix}
	case strings.HasSuffix(file, "/"):
		return &bad{"a folder, not a file", fix}
	case strings.ContainsAny(file, "\x00?#%"): // where gRPC's clients would take the rest for something else
		return &bad{"a path with ? # % or a zero byte, which clients cannot dial", fix}
	case len(file) > maxSocketPath:
		return &bad{fmt.Sprintf("a path of %d bytes, and the system takes %d", len(file), maxSocketPath), "write a shorter one"}
	}
	return nil
}

func listeners(key, said string) []listener {
	var all []listener
	for _, address := range expandLocalhost(said) {
		a, _ := parseAddress(address, true)
		all = append(all, listener{key: key, said: said, hostPort: a})
	}
	return all
}

// checkDistinct reports two of our own listeners that cannot both bind.
func (l *loader) checkDistinct(own []listener) {
	reported := make(map[string]bool)
	for i, a := range own {
		for _, b := range own[:i] {
			same := a.path != "" && a.path == b.path
			if !same && !a.meets(b.hostPort, netip.Addr{}) && !b.meets(a.hostPort, netip.Addr{}) {
				continue
			}
			pair := a.key + a.said + b.key + b.said
			if reported[pair] {
				continue
			}
			reported[pair] = true
			what := "the same port as"
			if same {
				what = "the same socket as"
			}
			l.faultAt(a.key, a.said, fmt.Sprintf("%s %s = %q", what, b.key, b.said), "give each its own")
		}
	}
}

// checkLoops reports apps whose address is one of our own listeners: the sidecar would call itself.
func (l *loader) checkLoops(cfg *Config, own []listener) {
	for i, app := range cfg.Apps {
		path := fmt.Sprintf("apps[%d].address", i)
		for _, o := range own {
			if o.reachedBy(app.Address, cfg.Fly.PrivateIP) {
				l.faultAt(path, app.Address, fmt.Sprintf("the sidecar's own listener (%s = %q), so it would loop", o.key, o.said),
					"write the address that the app itself listens on (GRPC_PORT), or move "+o.key)
				break
			}
		}
	}
}

func (o listener) reachedBy(address string, own netip.Addr) bool {
	for _, one := range expandLocalhost(address) {
		if a, wrong := parseAddress(one, false); wrong == nil && o.meets(a, own) {
			return true
		}
	}
	return false
}

// meets tells whether who dials a reaches a listener on o. An unspecified address takes every address of this host, of which
// loopback ones and own are known; [::] takes IPv4 too, 0.0.0.0 only that.
func (o listener) meets(a hostPort, own netip.Addr) bool {
	if o.port != a.port || o.port == 0 {
		return false
	}
	if strings.EqualFold(o.host, a.host) {
		return true
	}
	at, err1 := netip.ParseAddr(o.host)
	ip, err2 := netip.ParseAddr(a.host)
	if err1 != nil || err2 != nil {
		return false
	}
	at, ip = at.Unmap(), ip.Unmap()
	if !at.IsUnspecified() {
		return at == ip
	}
	if at.Is4() && !ip.Is4() {
		return false
	}
	return ip.IsLoopback() || ip.IsUnspecified() || ip == own
}

package flyconfig

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// listeners checks what is asked from outside a place's Machine: that checks, scraping and services lead to where flyproxy listens, and
// may. Top is the report of fly.toml, where those are; the place may be in another file.
func (r *report) listeners(f *File, group string, p *place, top *report) {
	host, port := hostPort(p.cfg.Admin.Listen)
	top.ready(f, group, port)
	top.scraped(f, group, port)
	if isLoopback(host) {
		r.fault(p.key("FLYPROXY_ADMIN_LISTEN"), fmt.Sprintf(`write "[::]:%d", or remove it`, port),
			"flyproxy's admin listener, %s, is reachable from inside the Machine only, and Fly's checks and metrics come from outside", p.cfg.Admin.Listen)
	}
	if p.cfg.Mode == config.ModeGateway && !slices.ContainsFunc(p.cfg.Listen, reachable) {
		r.fault(p.key("FLYPROXY_LISTEN"), "write fly-local-6pn:50052, or remove it: a sidecar's default differs from a gateway's",
			"the gateway listens on %s, where no other Machine reaches it", strings.Join(p.cfg.Listen, ", "))
	}
	for _, s := range f.allServices() {
		if f.Applies(s.processes, group) {
			top.service6PN(s, p.cfg, port)
		}
	}
}

// service6PN checks a service of a Machine that flyproxy runs in.
func (r *report) service6PN(s anyService, cfg *config.Config, adminPort int) {
	if stop := autoStop(s.autoStop); stop == "stop" || stop == "suspend" {
		r.fault(s.key+".auto_stop_machines", `write "off"`,
			"Fly's proxy does not see calls over 6PN: it would %s a Machine that is answering some, and wake none for them", stop)
	}
	for _, address := range cfg.Listen {
		if host, port := hostPort(address); port == s.port && isLoopback(host) {
			r.fault(s.key+".internal_port", "write the app's own port, or use a gateway",
				"flyproxy listens on %s, which Fly's proxy does not reach", address)
		}
	}
	if s.port == adminPort {
		r.fault(s.key+".internal_port", "remove the service: checks and metrics need none",
			"it would show flyproxy's admin listener to the internet")
	}
}

// hostPort splits an address; the port is 0 where it has none, as a unix socket.
func hostPort(address string) (host string, port int) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0
	}
	if port, err = strconv.Atoi(text); err != nil {
		return host, 0
	}
	return host, port
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// reachable tells whether other Machines reach an address of listen.
func reachable(address string) bool {
	host, port := hostPort(address)
	return port != 0 && !isLoopback(host)
}

package flyconfig

import "fmt"

// handlers are those of Fly's proxy (fly.io/docs/networking/services).
var handlers = []string{"http", "tls", "pg_tls", "proxy_proto", "edge_http"}

func (r *report) services(f *File) {
	for i, s := range f.Services {
		key := fmt.Sprintf("services[%d]", i)
		if s.Protocol != "" {
			r.oneOf(key+".protocol", s.Protocol, "tcp", "udp")
		}
		if len(s.Ports) == 0 {
			r.fault(key, "add [[services.ports]], or remove the service: 6PN needs none", "a service without ports serves nobody")
		}
		for j := range s.Ports {
			r.servicePort(fmt.Sprintf("%s.ports[%d]", key, j), &s.Ports[j])
		}
	}
	for _, s := range f.allServices() {
		r.port(s.key+".internal_port", s.port)
		if s.autoStop != nil && autoStop(s.autoStop) == "" {
			r.fault(s.key+".auto_stop_machines", `write one of "off", "stop", "suspend"`, "%v is not accepted", s.autoStop)
		}
		if s.concurrency != nil {
			r.concurrency(s.key+".concurrency", s.concurrency)
		}
	}
}

func (r *report) servicePort(key string, p *ServicePort) {
	one, some := p.Port != nil, p.StartPort != nil || p.EndPort != nil
	if one == some {
		r.fault(key, "write port, or start_port and end_port", "which port it is is not said, or said twice")
	}
	first, last := 1, 65535 // what Fly takes where one end is missing
	for name, n := range map[string]*int{"port": p.Port, "start_port": p.StartPort, "end_port": p.EndPort} {
		if n == nil {
			continue
		}
		r.port(key+"."+name, *n)
		switch name {
		case "start_port":
			first = *n
		case "end_port":
			last = *n
		}
	}
	if some && first > last {
		r.fault(key+".end_port", "write one from start_port on", "it is before start_port")
	}
	for _, h := range p.Handlers {
		r.oneOf(key+".handlers", h, handlers...)
	}
}

func (r *report) concurrency(key string, c *Concurrency) {
	if c.Type != "" {
		r.oneOf(key+".type", c.Type, "connections", "requests")
	}
	for name, n := range map[string]int{"hard_limit": c.HardLimit, "soft_limit": c.SoftLimit} {
		if n < 0 {
			r.fault(key+"."+name, "write 0 or more", "%d is negative", n)
		}
	}
	if c.HardLimit > 0 && c.SoftLimit > c.HardLimit {
		r.fault(key+".soft_limit", fmt.Sprintf("write at most %d", c.HardLimit), "%d is above hard_limit, and is never reached", c.SoftLimit)
	}
}

// autoStop is what auto_stop_machines means, off, stop or suspend; empty where it is none of what Fly accepts (fly-go,
// MachineAutostop).
func autoStop(v any) string {
	switch v {
	case "off", "false", false:
		return "off"
	case "stop", "true", true:
		return "stop"
	case "suspend":
		return "suspend"
	}
	return ""
}

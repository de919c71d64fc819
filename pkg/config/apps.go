package config

import (
	"fmt"
	"strings"
)

// bound is where GRPC_BIND_ADDRESS and GRPC_PORT say that the app listens. They never describe a listener of the sidecar.
type bound struct {
	hostPort
	hostSet, portSet bool
}

func (b bound) source() string {
	switch {
	case b.hostSet && b.portSet:
		return "GRPC_BIND_ADDRESS, GRPC_PORT"
	case b.hostSet:
		return "GRPC_BIND_ADDRESS"
	case b.portSet:
		return "GRPC_PORT"
	}
	return "default"
}

// appBound reads GRPC_BIND_ADDRESS and GRPC_PORT, by default 0.0.0.0 and 50051.
func (l *loader) appBound() bound {
	b := bound{hostPort: hostPort{"0.0.0.0", 50051}}
	const key = "apps[0].address"
	if s, ok := l.env["GRPC_BIND_ADDRESS"]; ok {
		host := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
		if wrong := checkHost(host); wrong != nil {
			l.refuse(key, "GRPC_BIND_ADDRESS", show(nil, s), wrong.problem,
				"write the IP address that the app binds, without a port, such as 0.0.0.0 or ::")
		} else {
			b.host, b.hostSet = host, true
		}
	}
	if s, ok := l.env["GRPC_PORT"]; ok {
		if a, wrong := parseAddress("localhost:"+s, false); wrong != nil {
			l.refuse(key, "GRPC_PORT", show(nil, s), "not a port", "write the port that the app listens on, from 1 to 65535")
		} else {
			b.port, b.portSet = a.port, true
		}
	}
	b.host = dialable(b.host)
	return b
}

// resolveApps fills in what the apps leave to others: address, service, weight.
func (l *loader) resolveApps(cfg *Config) {
	if cfg.Mode == ModeGateway {
		return
	}
	said := l.appBound()
	for i := range cfg.Apps {
		app, path := &cfg.Apps[i], fmt.Sprintf("apps[%d]", i)
		l.resolveAppAddress(app, path+".address", said, len(cfg.Apps) == 1)
		if app.Service == "" && !l.refused[path+".service"] {
			app.Service = cfg.Service
			l.origins[path+".service"] = l.origins["service"]
		}
		if app.Weight == 0 {
			app.Weight = cfg.Registration.Weight
			l.origins[path+".weight"] = l.origins["registration.weight"]
		}
	}
}

// resolveAppAddress applies GRPC_BIND_ADDRESS and GRPC_PORT: to an app without an address, and to a single app of the file,
// whose address they beat, each its part.
func (l *loader) resolveAppAddress(app *App, path string, by bound, single bool) {
	if app.Address == "" {
		if !l.refused[path] {
			app.Address = by.String()
			l.origins[path] = origin{fromDefault, by.source()}
		}
		return
	}
	address, wrong := parseAddress(app.Address, false)
	if wrong != nil {
		l.faultAt(path, app.Address, wrong.problem, wrong.fix)
		l.refused[path] = true
		app.Address = ""
		return
	}
	address.host = dialable(address.host)
	if single && l.origins[path].level == fromFile && (by.hostSet || by.portSet) {
		before := address
		if by.hostSet {
			address.host = by.host
		}
		if by.portSet {
			address.port = by.port
		}
		if address != before {
			l.warn(path, "%s is not used: %s says %s", before, by.source(), address)
			l.origins[path] = origin{fromShared, by.source()}
		}
	}
	app.Address = address.String()
}

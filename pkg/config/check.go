package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// resolveStore settles which registry is meant.
func (l *loader) resolveStore(cfg *Config) {
	r := &cfg.Registry
	const key = "registry.store"
	if l.refused[key] {
		return
	}
	redis, static := len(r.Redis.Seeds()) > 0, len(r.Static) > 0
	switch {
	case r.Store == "auto" && redis:
		r.Store = StoreRedis
		l.resolved(key)
	case r.Store == "auto" && static:
		r.Store = StoreStatic
		l.resolved(key)
	case l.blind || l.refusedBelow("registry.redis") || l.refusedBelow("registry.static"):
	case r.Store == "auto":
		l.faultAt(key, "", "Service discovery not configured",
			"set REDIS_URL (or REDIS_HOST, or registry.redis in the file), list instances under registry.static, or for development "+
				"set FLYPROXY_REGISTRY_STORE=embedded")
	case r.Store == StoreRedis && !redis:
		l.faultAt(key, r.Store, "no Redis address is set", "set REDIS_URL, REDIS_HOST or registry.redis in the file")
	case r.Store == StoreStatic && !static:
		l.faultAt(key, r.Store, "registry.static lists no instances", "list them, each with service and address")
	}
}

// refusedBelow tells whether a value at path, or of a key below it, was refused.
func (l *loader) refusedBelow(path string) bool {
	for refused := range l.refused {
		if rest, ok := strings.CutPrefix(refused, path); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// check looks at what the values mean, alone and together. Types, bounds and forms of single values are checked already.
func (l *loader) check(cfg *Config) {
	l.checkListeners(cfg)
	l.checkApps(cfg)
	l.checkRegistration(cfg)
	l.checkRegistry(&cfg.Registry)
	l.checkRouting(&cfg.Routing)
	l.checkRun(&cfg.Run)
	l.checkTLS(cfg)
	l.checkDownstream(cfg)
	l.warnUnhonoured(cfg)
}

func (l *loader) checkApps(cfg *Config) {
	if len(cfg.Apps) == 0 && cfg.Registers() && !l.refusedBelow("apps") && !l.blind {
		l.faultAt("apps", "", "no app to register", "list one, or set registration.enabled to false")
	}
	for i, app := range cfg.Apps {
		path := fmt.Sprintf("apps[%d]", i)
		for j, other := range cfg.Apps[:i] {
			if app.Name == other.Name {
				l.faultAt(path+".name", app.Name, fmt.Sprintf("also the name of apps[%d]", j), "give each app its own name")
			}
			if app.Address == other.Address && app.Service == other.Service && app.Address != "" {
				l.faultAt(path+".address", app.Address, fmt.Sprintf("the same service at the same address as apps[%d]", j),
					"give each app its own address, or its own service")
			}
		}
		if app.Service == "" && cfg.Registration.Enabled && !l.blind && !l.refused["service"] && !l.refused[path+".service"] {
			l.missingService(path, len(cfg.Apps) == 1)
		}
	}
}

func (l *loader) missingService(path string, single bool) {
	if !single {
		l.faultAt(path+".service", "", "the app has no service to be registered under",
			"set it, or set service (FLYPROXY_SERVICE) for all apps")
		return
	}
	l.faultAt("service", "",
		"missing: the app is registered under the name of its service, and outside Fly there is no FLY_APP_NAME to take",
		"set service or FLYPROXY_SERVICE, or set registration.enabled to false")
}

func (l *loader) checkRegistration(cfg *Config) {
	r := cfg.Registration
	if least := r.Interval*2 + r.Interval/2; r.Lease < least && !l.refused["registration.lease"] && !l.refused["registration.interval"] {
		l.faultAt("registration.lease", formatDuration(r.Lease),
			fmt.Sprintf("too short for beats every %s: one lost beat would end the registration", formatDuration(r.Interval)),
			fmt.Sprintf("write at least %s (2.5 intervals), or shorten registration.interval", formatDuration(least)))
	}
	seen := make(map[string]int)
	for i, label := range r.Labels {
		if j, twice := seen[label.Name]; twice && label.Name != "" {
			l.faultAt(fmt.Sprintf("registration.labels[%d].name", i), label.Name, fmt.Sprintf("also the name of labels[%d]", j),
				"keep one of them")
		}
		seen[label.Name] = i
	}
	l.checkAdvertised(cfg)
}

// checkAdvertised forms each app's address, with a stand-in where only a running sidecar knows the host.
func (l *loader) checkAdvertised(cfg *Config) {
	const key = "registration.address"
	if !cfg.Registers() || l.refused[key] {
		return
	}
	if said, set := l.env["FLY_PRIVATE_IP"]; set && !cfg.Fly.PrivateIP.IsValid() && cfg.Fly.OnFly {
		l.fault(Fault{Source: "FLY_PRIVATE_IP", Value: said, Problem: "not an IP address", Fix: "write the Machine's 6PN address, fdaa:…"})
		return
	}
	said, advertised := cfg.Registration.Address, make(map[string]int)
	for i, app := range cfg.Apps {
		if app.Address == "" {
			continue
		}
		address, err := cfg.AdvertisedAddress(app, "host.example")
		if err == nil {
			if _, wrong := parseAddress(address, false); wrong != nil {
				err = fmt.Errorf("it gives %q, %s", address, wrong.problem)
			}
		}
		if err != nil {
			fix := "write auto, private-ip, machine-dns, host:port, or a template such as {instance_id}.internal:{port}"
			if said == "auto" {
				fix = "set FLY_PRIVATE_IP, or write another form into registration.address, or set registration.is_fly to false"
			}
			l.faultAt(key, said, err.Error(), fix)
			return
		}
		if l.outsideNetworks(cfg, address) {
			l.faultAt(key, said, fmt.Sprintf("it gives %s, which lies outside registry.allowed_networks: nobody would take the record", address),
				"add its network to registry.allowed_networks, or advertise another address")
			return
		}
		if j, twice := advertised[address]; twice && app.Port() != cfg.Apps[j].Port() {
			l.faultAt(key, said, fmt.Sprintf("apps[%d] and apps[%d] would both be advertised as %s", j, i, address),
				"write {port} into it")
			return
		}
		advertised[address] = i
	}
	if host, _, err := net.SplitHostPort(said); err == nil && loopback(host) && !strings.Contains(said, "{") {
		l.warn(key, "%s is reachable from this host only", said)
	}
}

// outsideNetworks tells whether an advertised address is an IP address that the records' own check would refuse.
func (l *loader) outsideNetworks(cfg *Config, address string) bool {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || l.refused["registry.allowed_networks"] || cfg.Registry.Store == StoreStatic {
		return false
	}
	networks := cfg.Registry.Networks()
	return len(networks) > 0 && !slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(ap.Addr().Unmap()) })
}

func (l *loader) checkRegistry(r *Registry) {
	l.checkNetworks("registry.allowed_networks", r.AllowedNetworks)
	seen := make(map[string]int)
	for i := range r.Static {
		inst, path := &r.Static[i], fmt.Sprintf("registry.static[%d]", i)
		if inst.Address != "" {
			if _, wrong := parseAddress(inst.Address, false); wrong != nil {
				l.faultAt(path+".address", inst.Address, wrong.problem, wrong.fix)
			}
		}
		if inst.ID == "" && !l.refused[path+".id"] {
			inst.ID = inst.Address
			l.origins[path+".id"] = origin{fromDefault, "default"}
		}
		key := inst.Service + "/" + inst.ID
		if j, twice := seen[key]; twice && inst.ID != "" {
			l.faultAt(path+".id", inst.ID, "also the id of registry.static["+strconv.Itoa(j)+"], of the same service",
				"give each instance its own")
		}
		seen[key] = i
	}
}

func (l *loader) checkRouting(r *Routing) {
	seen := make(map[string]int)
	for i, route := range r.Routes {
		path := fmt.Sprintf("routing.routes[%d].prefix", i)
		if route.Prefix == "" {
			continue
		}
		if !strings.HasPrefix(route.Prefix, "/") {
			l.faultAt(path, route.Prefix, "does not begin with a slash, as every gRPC path does", "write /"+clip(route.Prefix))
		}
		if j, twice := seen[route.Prefix]; twice {
			l.faultAt(path, route.Prefix, fmt.Sprintf("also the prefix of routes[%d]", j), "keep one of them")
		}
		seen[route.Prefix] = i
	}
	if r.Backoff.Base > r.Backoff.Max && !l.refusedBelow("routing.backoff") {
		l.faultAt("routing.backoff.base", formatDuration(r.Backoff.Base),
			"longer than routing.backoff.max, "+formatDuration(r.Backoff.Max),
			"shorten it, or lengthen the other")
	}
}

func (l *loader) checkRun(r *Run) {
	if r.Backoff.Base > r.Backoff.Max && !l.refusedBelow("run.backoff") {
		l.faultAt("run.backoff.base", formatDuration(r.Backoff.Base), "longer than run.backoff.max, "+formatDuration(r.Backoff.Max),
			"shorten it, or lengthen the other")
	}
}

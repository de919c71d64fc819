package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
)

// lookLimit bounds one look-up, so that a resolver which says nothing is told from an examination that was cut off.
const lookLimit = 4 * time.Second

// name is a name to look up, and what it is for.
type name struct {
	host, what string
	// own is the address that it should give; the zero Addr where that is not known.
	own netip.Addr
}

// names are those that mean something here. Fly's own resolve on Fly only.
func (e *examination) names() []name {
	var all []name
	env := e.cfg.Fly
	if env.OnFly {
		all = append(all, name{"fly-local-6pn", "this Machine's 6PN address, in /etc/hosts", env.PrivateIP})
		if env.App != "" {
			all = append(all, name{env.App + ".internal", "all started Machines of the app", netip.Addr{}})
		}
		if env.App != "" && env.MachineID != "" {
			all = append(all, name{env.MachineID + ".vm." + env.App + ".internal", "this Machine", env.PrivateIP})
		}
	}
	if e.cfg.Registry.Store == config.StoreRedis {
		for _, address := range sidecar.RedisConfig(e.cfg).Addresses {
			host, _, err := net.SplitHostPort(address)
			if _, ipErr := netip.ParseAddr(host); err == nil && ipErr != nil {
				all = append(all, name{host, "Redis", netip.Addr{}})
			}
		}
	}
	return all
}

// dns looks names up. No call waits for one: they matter where an address of the configuration is a name, and to people.
func (e *examination) dns(ctx context.Context, f *findings) {
	all := e.names()
	if len(all) == 0 {
		f.add(dnsNone, "", "nothing to look up: no Redis is configured by name, and this is no Fly Machine", "")
		return
	}
	each := make([]*findings, len(all))
	var looked sync.WaitGroup
	for i, n := range all {
		each[i] = &findings{check: f.check}
		looked.Go(func() { e.lookup(ctx, each[i], n) })
	}
	looked.Wait()
	for _, one := range each {
		f.all = append(f.all, one.all...)
	}
}

func (e *examination) lookup(ctx context.Context, f *findings, n name) {
	ctx, cancel := context.WithTimeout(ctx, min(lookLimit, e.o.Timeout/2))
	defer cancel()
	found, err := e.o.Resolver.LookupNetIP(ctx, "ip", n.host)
	var why *net.DNSError
	switch {
	case err == nil && n.own.IsValid() && !slices.ContainsFunc(found, func(a netip.Addr) bool { return a.Unmap() == n.own }):
		f.add(dnsOther, n.host, n.what+" is "+join(found)+", and FLY_PRIVATE_IP says "+n.own.String(), "restart the Machine: its address has changed since the environment was made")
	case err == nil:
		f.add(dnsResolved, n.host, n.what+": "+join(found), "")
	case errors.As(err, &why) && why.IsNotFound:
		f.add(dnsNoName, n.host, lookupFault(why), missingFix(n))
	case errors.As(err, &why) && (why.IsTimeout || why.IsTemporary):
		f.add(dnsNoAnswer, n.host, lookupFault(why), "see /etc/resolv.conf: on Fly the resolver is fdaa::3; look-ups fail now and then, so try again. Calls do not wait for names")
	default:
		f.add(dnsNoAnswer, n.host, plain(err), "see /etc/resolv.conf: on Fly the resolver is fdaa::3")
	}
}

func missingFix(n name) string {
	switch {
	case n.host == "fly-local-6pn":
		return "Fly writes it into /etc/hosts; a container image or a chroot that hides that file lacks it. The gateway listens on [::] then"
	case strings.HasSuffix(n.host, ".internal") && n.what != "Redis":
		return "see that FLY_APP_NAME and FLY_MACHINE_ID are this Machine's; a Machine that was just started takes seconds to appear"
	}
	return "correct the host in REDIS_URL or REDIS_HOST"
}

// join lists a few addresses.
func join(all []netip.Addr) string {
	const most = 4
	var parts []string
	for _, a := range all[:min(len(all), most)] {
		parts = append(parts, a.Unmap().String())
	}
	text := strings.Join(parts, ", ")
	if len(all) > most {
		text += ", …"
	}
	return text
}

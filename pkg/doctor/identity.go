package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/fly"
)

// variable is an environment variable, empty where it is not set.
func (e *examination) variable(name string) string {
	value := ""
	for _, entry := range e.o.Config.Environ {
		if k, v, _ := strings.Cut(entry, "="); k == name {
			value = v
		}
	}
	return value
}

// identity looks at what Fly says of this Machine and whether that is so.
func (e *examination) identity(f *findings) {
	env := e.cfg.Fly
	switch {
	case env.OnFly && (env.App == "" || env.MachineID == ""):
		f.add(identityIncomplete, "registration.is_fly", "it says that this is a Fly Machine, and "+e.missing()+" not set",
			"have Fly set it: take registration.is_fly away, and do not clear the environment of flyproxy")
	case env.OnFly:
		text := fmt.Sprintf("Machine %s of the app %s", env.MachineID, env.App)
		if env.ProcessGroup != "" {
			text += ", process group " + env.ProcessGroup
		}
		if env.MemoryMB > 0 {
			text += fmt.Sprintf(", %d MB", env.MemoryMB)
		}
		f.add(identityFly, "", text, "")
	case env.App != "" && env.MachineID != "":
		f.add(identityElsewhere, "", "taken for a host outside of Fly, since registration.is_fly says so", "")
	case env.App != "" || env.MachineID != "":
		f.add(identityIncomplete, "", e.missing()+" not set, so this is not taken for a Fly Machine",
			"start flyproxy with the whole environment of the Machine; supervisord passes it on, env -i and su - do not")
	default:
		f.add(identityElsewhere, "", "not a Fly Machine: FLY_APP_NAME and FLY_MACHINE_ID are not set", "")
	}
	if env.OnFly {
		e.privateAddress(f)
	}
	e.region(f)
	if !e.gateway() && e.cfg.Source("instance_id") == "generated" {
		f.add(identityGenerated, "instance_id", "generated anew at every start",
			"set FLYPROXY_INSTANCE_ID if calls are pinned to an instance across restarts")
	}
}

// missing names what of Fly's identity is not there, with the verb.
func (e *examination) missing() string {
	var names []string
	for _, name := range []string{"FLY_APP_NAME", "FLY_MACHINE_ID"} {
		if e.variable(name) == "" {
			names = append(names, name)
		}
	}
	if len(names) == 2 {
		return strings.Join(names, " and ") + " are"
	}
	return strings.Join(names, "") + " is"
}

func (e *examination) privateAddress(f *findings) {
	ip := e.cfg.Fly.PrivateIP
	if !ip.IsValid() {
		found := "not set"
		if said := e.variable("FLY_PRIVATE_IP"); said != "" {
			found = fmt.Sprintf("%q is no IP address", said)
		}
		f.add(identityNoAddress, "FLY_PRIVATE_IP", found+": peers cannot be told how to reach this Machine",
			"Fly sets it in every Machine: start flyproxy with the whole environment, and do not set it yourself")
		return
	}
	if !fly.PrivateNetwork().Contains(ip) {
		f.add(identityNotPrivate, "FLY_PRIVATE_IP", fmt.Sprintf("%s is not in %s, Fly's private network", ip, fly.PrivateNetwork()),
			"do not set FLY_PRIVATE_IP yourself: Fly does")
	}
	all, err := e.o.Addresses()
	switch {
	case err != nil:
		f.skip("FLY_PRIVATE_IP", "the addresses of this host cannot be listed: "+err.Error())
	case !slices.ContainsFunc(all, func(a netip.Addr) bool { return a.WithZone("") == ip.Unmap() }):
		f.add(identityForeign, "FLY_PRIVATE_IP", ip.String()+" is on no interface of this host: peers that dial it do not come here",
			"restart the Machine, whose address may have changed when it moved; a copied environment has another Machine's")
	default:
		f.add(identityAddress, "FLY_PRIVATE_IP", ip.String()+" is an address of this host", "")
	}
}

func (e *examination) region(f *findings) {
	region := e.cfg.Region
	_, known := fly.Distance(region, "ams")
	switch {
	case region == "":
		f.add(identityNoRegion, "region", "unknown: no instance counts as near", "set FLYPROXY_REGION; on Fly, FLY_REGION is there")
	case !known:
		f.add(identityRegionUnknown, "region", region+" is not one of Fly's that flyproxy knows: the same region is still preferred, the others are not sorted by distance", "")
	default:
		f.add(identityRegion, "region", region, "")
	}
}

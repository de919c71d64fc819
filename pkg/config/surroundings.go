package config

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/fly"
)

// SourceOnFly is what [Config.Source] says of a default that holds on Fly only.
const SourceOnFly = "default on Fly"

// surroundings are the defaults that depend on where the process runs. They stand below the file and the environment.
func (l *loader) surroundings(env fly.Environment, hostname, mode string) []setting {
	var all []setting
	add := func(path, source string, value any) {
		if l.origins[path].level <= fromDefault {
			l.origins[path] = origin{fromDefault, source}
		}
		all = append(all, setting{path, value})
	}
	for _, d := range []struct{ path, name string }{
		{"service", "FLY_APP_NAME"},
		{"instance_id", "FLY_MACHINE_ID"},
		{"region", "FLY_REGION"},
		{"registration.process_group", "FLY_PROCESS_GROUP"},
		{"registration.app_version", "FLY_IMAGE_REF"},
	} {
		s, ok := l.env[d.name]
		if !ok || l.origins[d.path].level > fromDefault {
			continue
		}
		value, b := l.lookup(d.path).parse(s)
		if b != nil {
			l.refuse(d.path, d.name, clip(s), b.problem, b.fix)
			continue
		}
		add(d.path, d.name, value)
	}
	if l.origins["instance_id"].level == fromNowhere {
		add("instance_id", "generated", generateID(hostname))
	}
	if env.OnFly {
		add("admin.listen", SourceOnFly, "[::]:9052")
		if mode != ModeGateway { // which has no apps that somebody could withdraw
			add("admin.socket", SourceOnFly, DefaultControlSocket)
		}
		add("registry.allowed_networks", SourceOnFly, []string{fly.PrivateNetwork().String()})
	}
	if mode == ModeGateway {
		add("listen", "default of a gateway", []string{gatewayListen})
		add("downstream.allowed_networks", "default of a gateway", gatewayClients())
	}
	if mode != ModeGateway && l.origins["apps"].level == fromNowhere && !l.refused["apps"] {
		app := make(map[string]any)
		l.itemDefaults(l.root.child("apps"), "apps[0]", app, "default")
		add("apps", "default", []any{app})
	}
	return all
}

// generateID makes an id that no other process has: the host's name, for people, and 32 random bits.
func generateID(hostname string) string {
	host := strings.Map(func(r rune) rune {
		if nameLike(string(r), "") {
			return r
		}
		return '-'
	}, hostname)
	if host == "" {
		host = "host"
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand since Go 1.24)
	return fmt.Sprintf("%.100s-%s", host, hex.EncodeToString(random[:]))
}

package flyconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// A place is where a flyproxy runs: a process group, or a container.
type place struct {
	prefix string // of the keys of env
	env    map[string]any
	at     string // the key of its command
	mode   string // that the command says
	cfg    *config.Config
}

// key is that of a variable which a value of the configuration may come from; the place's command where it is not set.
func (p *place) key(variables ...string) string {
	for _, name := range variables {
		if _, set := p.env[name]; set {
			return p.prefix + name
		}
	}
	return p.at
}

// inImage are variables that name files. Those are in the image, and not here.
var inImage = []string{"FLYPROXY_CONFIG"}

// configuration is flyproxy's in a place; nil where it is not good.
func (r *report) configuration(p *place) *config.Config {
	environ := []string{"FLY_APP_NAME=app", "FLY_MACHINE_ID=machine", "FLY_REGION=ams", "FLY_PRIVATE_IP=fdaa::3"}
	if !slices.ContainsFunc([]string{"REDIS_ADDRESSES", "REDIS_HOST", "REDIS_URL", "STORE", "STATIC"}, func(name string) bool {
		return p.env["FLYPROXY_REGISTRY_"+name] != nil
	}) && p.env["REDIS_HOST"] == nil {
		environ = append(environ, "REDIS_HOST=redis.internal") // which is a secret's there
	}
	for name, value := range p.env {
		if !slices.Contains(inImage, name) {
			environ = append(environ, fmt.Sprintf("%s=%v", name, value))
		}
	}
	cfg, err := config.Load(config.Options{
		Environ: environ, Mode: p.mode, Hostname: "machine",
		ReadFile: func(string) ([]byte, error) { return nil, fs.ErrNotExist },
	})
	var faults *config.Error
	switch {
	case err == nil:
		return cfg
	case !errors.As(err, &faults):
		r.fault(strings.TrimSuffix(p.prefix, "."), "", "flyproxy: %v", err)
		return nil
	}
	good := true
	for _, f := range faults.Faults {
		if strings.HasSuffix(f.Key, "_file") && strings.HasPrefix(f.Problem, "cannot read the file") {
			continue
		}
		good = false
		what := f.Problem
		if f.Key != "" {
			what = f.Key + ": " + what
		}
		r.fault(r.keyOf(p, f.Source), f.Fix, "flyproxy: %s", what)
	}
	if !good {
		return nil
	}
	return faults.Partial
}

// keyOf is where a source of the configuration stands in the file.
func (r *report) keyOf(p *place, source string) string {
	if _, set := p.env[source]; set {
		return p.prefix + source
	}
	if source == "--mode" {
		return p.at
	}
	return strings.TrimSuffix(p.prefix, ".")
}

// warnings reports what flyproxy would warn of. One [env] is for several groups, and what only another mode uses is no mistake: so only
// what flyproxy warns of in all of them is. What hangs on a secret, such as the Redis URL, is not known here.
func (r *report) warnings(all []place) {
	if len(all) == 0 {
		return
	}
	for _, w := range all[0].cfg.Warnings {
		everywhere := !slices.ContainsFunc(all, func(p place) bool { return !slices.Contains(p.cfg.Warnings, w) })
		if everywhere && !strings.HasPrefix(w.Key, "registry.redis.") {
			r.fault(r.keyOf(&all[0], w.Source), "change it, or remove it", "flyproxy: %s: %s", w.Key, w.Text)
		}
	}
}

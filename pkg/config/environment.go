package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// notKeys are FLYPROXY_ variables that set no key: one names the file, the other is for apps, which dial the sidecar there and may share
// its environment.
var notKeys = []string{"FLYPROXY_CONFIG", "FLYPROXY_ADDR"}

// environment reads every FLYPROXY_ variable. One that sets nothing is a fault: it is a typing error, or a key that is gone.
func (l *loader) environment() []setting {
	leaves := l.root.leaves()
	var known []string
	var all []setting
	for _, f := range leaves {
		known = append(known, f.env())
		s, ok := l.env[f.env()]
		if !ok {
			continue
		}
		if value, ok := l.variable(f, f.env(), s, fromEnvironment); ok {
			all = append(all, setting{f.path, value})
		}
	}
	var unknown []string
	for name := range l.env {
		if strings.HasPrefix(name, "FLYPROXY_") && !slices.Contains(known, name) && !slices.Contains(notKeys, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		fix := "unset it; `flyproxy config print` lists the keys"
		for _, f := range leaves {
			if f.kind == items && strings.HasPrefix(name, f.env()+"_") {
				fix = "write the whole list as YAML or JSON in " + f.env()
			}
		}
		if near, ok := nearest(name, append(known, notKeys...)); ok && strings.HasPrefix(fix, "unset") {
			fix = "did you mean " + near + "?"
		}
		l.fault(Fault{Source: name, Problem: "unknown environment variable", Fix: fix})
	}
	return all
}

// variable reads one environment variable as the value of a key.
func (l *loader) variable(f *field, name, s string, lv level) (any, bool) {
	if f.kind == items {
		in := &yamlReader{loader: l, level: lv, source: func(int) string { return name }}
		n := in.document([]byte(s), f.path)
		if n == nil {
			return nil, false
		}
		if n.Kind == yaml.MappingNode {
			l.refuse(f.path, name, "", "a list is wanted, not a map of keys", "write [{…}], YAML or JSON")
			return nil, false
		}
		return in.value(n, f, f.path)
	}
	value, b := f.parse(s)
	if b != nil {
		l.refuse(f.path, name, show(f, s), b.problem, b.fix)
		return nil, false
	}
	l.origins[f.path] = origin{lv, name}
	return value, true
}

// flags reads what was said on the command line.
func (l *loader) flags(o Options) []setting {
	if o.Mode == "" {
		return nil
	}
	if value, ok := l.variable(l.lookup("mode"), "--mode", o.Mode, fromEnvironment); ok {
		return []setting{{"mode", value}}
	}
	return nil
}

// sharedNames reads the names that other programs use too. They beat the file and lose to the FLYPROXY_ form of the same key.
func (l *loader) sharedNames() []setting {
	var all []setting
	for _, shared := range sharedNames() {
		f := l.lookup(shared.path)
		s, ok := l.env[shared.variable]
		if _, ours := l.env[f.env()]; !ok || ours {
			continue
		}
		if value, ok := l.variable(f, shared.variable, s, fromShared); ok {
			all = append(all, setting{shared.path, value})
		}
	}
	return all
}

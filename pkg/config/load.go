package config

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"github.com/flyproxy/flyproxy/pkg/fly"
)

// Options are all that Load reads from.
type Options struct {
	// Path is the file that --config names; empty when the flag was not given.
	Path string
	// Environ is the environment in the form of [os.Environ]. A variable that is set to nothing counts as not set.
	Environ []string
	// Mode is what --mode says, which beats file and environment; empty when the flag was not given.
	Mode string
	// Hostname becomes part of a generated instance id.
	Hostname string
	// ReadFile reads the configuration file; nil is [os.ReadFile].
	ReadFile func(name string) ([]byte, error)
}

// Load reads, layers and checks the configuration. The error is an [*Error] that holds every fault; the configuration is nil
// then.
func Load(o Options) (*Config, error) {
	l := &loader{
		root:    schema(),
		env:     make(map[string]string),
		origins: make(map[string]origin),
		refused: make(map[string]bool),
		read:    o.ReadFile,
	}
	if l.read == nil {
		l.read = os.ReadFile
	}
	for _, entry := range o.Environ {
		if name, value, ok := strings.Cut(entry, "="); ok && value != "" {
			l.env[name] = value
		}
	}
	cfg, err := l.load(o)
	if err != nil {
		l.fault(Fault{Source: "flyproxy", Problem: "cannot decode the configuration: " + err.Error()})
	}
	if len(l.faults) > 0 {
		if cfg != nil {
			cfg.origins = l.origins
		}
		return nil, &Error{Faults: l.faults, Warnings: l.warnings, Partial: cfg}
	}
	cfg.Warnings = l.warnings
	cfg.origins = l.origins
	return cfg, nil
}

// loader is the state of one Load.
type loader struct {
	root     *field
	env      map[string]string
	read     func(string) ([]byte, error)
	faults   []Fault
	warnings []Warning
	// origins are where the values in force come from, by path.
	origins map[string]origin
	// refused are the paths that had a value which was not taken. What follows from its absence is not reported too.
	refused map[string]bool
	// blind is set when a whole layer could not be read, so that nothing can be called missing.
	blind bool
}

// A setting is one value of a layer.
type setting struct {
	path  string
	value any
}

// load stacks the layers in a viper of its own. A value that was refused is in no layer, so the one below shows through and
// the checks that follow see a whole configuration.
func (l *loader) load(o Options) (*Config, error) {
	v := viper.New()
	for _, f := range l.root.leaves() {
		if f.hasDefault {
			value, _ := f.parse(f.def)
			v.SetDefault(f.path, value)
			l.origins[f.path] = origin{fromDefault, "default"}
		}
	}
	file, values := l.readFile(o.Path)
	if err := v.MergeConfigMap(values); err != nil {
		return nil, err
	}
	for _, s := range slices.Concat(l.sharedNames(), l.environment(), l.flags(o)) {
		v.Set(s.path, s.value)
	}

	env := l.detect(v.GetString("registration.is_fly"))
	for _, s := range l.surroundings(env, o.Hostname, v.GetString("mode")) {
		v.SetDefault(s.path, s.value)
	}

	cfg := &Config{Fly: env, File: file}
	if err := v.Unmarshal(cfg, func(c *mapstructure.DecoderConfig) { c.TagName = "key" }); err != nil {
		return nil, err
	}
	l.resolveMode(cfg)
	l.resolveApps(cfg)
	l.resolveRedis(&cfg.Registry.Redis)
	l.resolveStore(cfg)
	l.check(cfg)
	return cfg, nil
}

func (l *loader) detect(forced string) fly.Environment {
	env := fly.Detect(func(name string) (string, bool) {
		value, ok := l.env[name]
		return value, ok
	})
	switch forced {
	case "true":
		return env.Forced(true)
	case "false":
		return env.Forced(false)
	}
	return env
}

func (l *loader) fault(f Fault) { l.faults = append(l.faults, f) }

// faultAt reports a fault of the value that is in force under path.
func (l *loader) faultAt(path, value, problem, fix string) {
	source := l.origins[path].source
	if source == "" {
		source = "default"
	}
	l.fault(Fault{Key: path, Value: show(l.lookup(path), value), Source: source, Problem: problem, Fix: fix})
}

// refuse reports a value that is not taken into its layer.
func (l *loader) refuse(path, source, value, problem, fix string) {
	l.refused[path] = true
	l.fault(Fault{Key: path, Value: value, Source: source, Problem: problem, Fix: fix})
}

func (l *loader) warn(path, format string, args ...any) {
	source := l.origins[path].source
	if source == "" {
		source = "default"
	}
	l.warnings = append(l.warnings, Warning{Key: path, Source: source, Text: fmt.Sprintf(format, args...)})
}

// lookup finds the field of a path such as apps[0].name; nil when there is none.
func (l *loader) lookup(path string) *field {
	f := l.root
	for part := range strings.SplitSeq(path, ".") {
		name, _, _ := strings.Cut(part, "[")
		if f = f.child(name); f == nil {
			return nil
		}
	}
	return f
}

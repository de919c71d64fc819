package flyconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// signals are those that fly-go accepts for stopping a Machine.
var signals = []string{"SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM"}

// appName is what the platform accepts (fly-go, flaps_error_test.go).
var appName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,61}$`)

// region is how the platform names its regions (fly.io/docs/reference/regions).
var region = regexp.MustCompile(`^[a-z]{3}$`)

// maxKillTimeout is the platform's bound (fly.io/docs/reference/configuration).
const maxKillTimeout = 300 * time.Second

// Load reads fly.toml at path, and the containers that it names, and gives everything that is wrong, in the order of the file.
// Dir is the directory in which fly is going to be run; machine_config is a path from there. The file is nil where it is no TOML
// or has values of a wrong type. The error is about reading the files, not about what stands in them.
func Load(path, dir string) (*File, []Fault, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read Fly's configuration: %w", err)
	}
	r := &report{file: path}
	f := decode(data, r)
	if f == nil {
		return nil, r.sorted(), nil
	}
	f.path, f.line = path, r.line
	r.top(f)
	r.build(f, filepath.Dir(path))
	r.deploy(f)
	r.env(f.Env)
	r.processes(f)
	r.checks(f.Checks)
	r.metrics(f.Metrics)
	r.restart(f.Restart)
	r.vms(f.VM)
	r.services(f)
	faults := r.sorted()
	if f.MachineConfig != "" {
		faults = append(faults, r.containers(f, dir)...)
	}
	return f, faults, nil
}

func (r *report) top(f *File) {
	switch {
	case f.App == "":
		r.fault("app", `write app = "name"`, "the name of the app is missing")
	case !appName.MatchString(f.App):
		r.fault("app", "write less than 63 small letters, digits and dashes", "%q is no name of an app", f.App)
	}
	if f.PrimaryRegion != "" && !region.MatchString(f.PrimaryRegion) {
		r.fault("primary_region", `write a code of three letters, such as "ams"; fly platform regions lists them`, "%q is no region", f.PrimaryRegion)
	}
	if f.KillSignal != "" {
		r.oneOf("kill_signal", f.KillSignal, signals...)
	}
	if d, ok := r.duration("kill_timeout", f.KillTimeout, time.Second); ok && d > maxKillTimeout {
		r.fault("kill_timeout", "write at most 300", "%v is more than Fly allows", d)
	}
	if _, err := words(f.ConsoleCommand); err != nil {
		r.fault("console_command", "close the quotation", "%v", err)
	}
}

// duration reads a duration and reports what is wrong with it; ok is false where it is absent too.
func (r *report) duration(key string, v any, unit time.Duration) (d time.Duration, ok bool) {
	if v == nil {
		return 0, false
	}
	d, err := duration(v, unit)
	switch {
	case err != nil:
		r.fault(key, `write a number and a unit, such as "15s" or "1m30s"`, "%v", err)
		return 0, false
	case d < 0:
		r.fault(key, "write 0 or more", "%v is negative", d)
		return 0, false
	}
	return d, true
}

func (r *report) build(f *File, dir string) {
	b := f.Build
	if b == nil {
		return
	}
	if b.Compression != "" {
		r.oneOf("build.compression", b.Compression, "gzip", "zstd")
	}
	var ways []string
	for way, set := range map[string]bool{
		"image": b.Image != "", "builder": b.Builder != "" || len(b.Buildpacks) > 0, "builtin": b.Builtin != "",
		"dockerfile": b.Dockerfile != "" || b.Target != "" || b.TargetOld != "",
	} {
		if set {
			ways = append(ways, way)
		}
	}
	if slices.Sort(ways); len(ways) > 1 {
		r.fault("build", "keep one", "more than one way of building: %s", strings.Join(ways, ", "))
	}
	if b.Dockerfile == "" || strings.Contains(b.Dockerfile, "://") {
		return
	}
	file := filepath.Join(dir, b.Dockerfile)
	text, err := os.ReadFile(file)
	if err != nil {
		r.fault("build.dockerfile", "it is a path from the directory of this file", "%s is not there", file)
		return
	}
	stages, names := stages(string(text))
	target := b.Target + b.TargetOld
	stage, ok := stages[target]
	switch {
	case !ok && target != "":
		r.fault("build.build-target", "write one of "+strings.Join(names, ", "), "%s has no target %q", b.Dockerfile, target)
	case entrypoint.MatchString(stage) && len(f.Processes) > 0:
		r.fault("build.dockerfile", "make it a CMD", "Fly appends the command of a process group to the ENTRYPOINT of target %q", target)
	}
}

var entrypoint = regexp.MustCompile(`(?mi)^\s*ENTRYPOINT\b`)

// stages are the texts of a Dockerfile's stages by their names, and the names in order. The last stage is there as "" too.
func stages(dockerfile string) (texts map[string]string, names []string) {
	texts = make(map[string]string)
	name := ""
	for line := range strings.Lines(dockerfile) {
		parts := strings.Fields(line)
		if n := len(parts); n >= 2 && strings.EqualFold(parts[0], "FROM") {
			name = ""
			if n >= 4 && strings.EqualFold(parts[n-2], "AS") {
				name = parts[n-1]
				names = append(names, name)
			}
			texts[name] = ""
		}
		texts[name] += line
	}
	texts[""] = texts[name]
	return texts, names
}

func (r *report) deploy(f *File) {
	d := f.Deploy
	if d == nil {
		return
	}
	if d.Strategy != "" {
		r.oneOf("deploy.strategy", d.Strategy, "canary", "rolling", "immediate", "bluegreen")
		if d.Strategy == "canary" && len(f.Mounts) > 0 {
			r.fault("deploy.strategy", "choose rolling", "canary does not work with volumes")
		}
	}
	if d.MaxUnavailable != nil {
		if m := *d.MaxUnavailable; m <= 0 {
			r.fault("deploy.max_unavailable", "write a share such as 0.33, or a number of Machines such as 1", "%v lets no Machine be replaced", m)
		}
		if d.Strategy != "" && d.Strategy != "rolling" && d.Strategy != "canary" {
			r.fault("deploy.max_unavailable", "remove it", "it has no effect on strategy %s", d.Strategy)
		}
	}
	r.duration("deploy.wait_timeout", d.WaitTimeout, time.Second)
	if d.ReleaseCommandTimeout != "none" {
		r.duration("deploy.release_command_timeout", d.ReleaseCommandTimeout, time.Second)
	}
	if _, err := words(d.ReleaseCommand); err != nil {
		r.fault("deploy.release_command", "close the quotation", "%v", err)
	}
	if d.ReleaseCommandVM != nil {
		r.vm("deploy.release_command_vm", d.ReleaseCommandVM)
	}
}

func (r *report) env(env map[string]any) {
	for name, value := range env {
		key := "env." + name
		if strings.HasPrefix(name, "FLY_") {
			r.fault(key, "remove it: Fly sets these itself", "names that begin with FLY_ are Fly's own")
		}
		switch value.(type) {
		case string, int64, float64, bool:
		default:
			r.fault(key, `write "text"`, "the value is not text")
		}
	}
}

func (r *report) checks(checks map[string]*Check) {
	for name, c := range checks {
		key := "checks." + name
		r.oneOf(key+".type", c.Type, "http", "tcp")
		if c.Port == nil {
			r.fault(key+".port", "write the port to connect to", "a check without a port")
		} else {
			r.port(key+".port", *c.Port)
		}
		// minimum and maximum: validation.go
		interval, known := r.duration(key+".interval", c.Interval, time.Millisecond)
		if known && interval < 2*time.Second {
			r.fault(key+".interval", `write at least "2s"`, "%v is shorter than Fly allows", interval)
		}
		switch d, ok := r.duration(key+".timeout", c.Timeout, time.Millisecond); {
		case ok && d > time.Minute:
			r.fault(key+".timeout", `write at most "60s"`, "%v is longer than Fly allows", d)
		case ok && known && d > interval:
			r.fault(key+".timeout", fmt.Sprintf("write at most %q", interval.String()), "%v is longer than the interval of %v", d, interval)
		}
		r.duration(key+".grace_period", c.GracePeriod, time.Millisecond)
		if c.Protocol != "" {
			r.oneOf(key+".protocol", c.Protocol, "http", "https")
		}
		switch {
		case c.Type == "http":
			r.path(key+".path", c.Path)
		case c.Type == "tcp" && c.Path != "":
			r.fault(key+".path", `remove it, or write type = "http"`, "a tcp check asks for no path")
		}
	}
}

func (r *report) metrics(all []Metrics) {
	for i, m := range all {
		key := fmt.Sprintf("metrics[%d]", i)
		r.port(key+".port", m.Port)
		r.path(key+".path", m.Path)
	}
}

func (r *report) restart(all []Restart) {
	for i, s := range all {
		key := fmt.Sprintf("restart[%d]", i)
		r.oneOf(key+".policy", s.Policy, "always", "on-failure", "never")
		if s.Retries < 0 {
			r.fault(key+".retries", "write 0 or more", "%d is negative", s.Retries)
		}
	}
}

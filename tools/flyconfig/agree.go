package flyconfig

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/config"
)

// secretNames are variables that the apps of a deployment keep secret, beside those of flyproxy's own keys.
var secretNames = []string{
	"REDIS_URL", "REDIS_PASSWORD", "JWT_SECRET", "SMTP_USER", "SMTP_PASS", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_KEY",
}

// Agree gives what of a file does not fit flyproxy as it would run there with the file's [env]: commands, ports, paths, times, and
// which groups are checked and scraped. Dir is where supervisord.conf is looked for, whose times have to fit into kill_timeout.
func Agree(f *File, dir string) []Fault {
	r := &report{file: f.path, line: f.line}
	r.noSecretsAt("env.", f.Env)
	if f.MachineConfig != "" {
		machine := &report{}
		machine.containersAgree(f, dir, r)
		return append(r.sorted(), machine.sorted()...)
	}
	var need time.Duration
	whose := ""
	var all []place
	var more []Fault // of supervisord.conf
	for _, group := range f.Groups() {
		at := "processes." + group
		line, err := words(f.Processes[group])
		if err == nil {
			r.inTheImage(f, group, at, "group "+group, line, r)
		}
		if err != nil {
			continue // said by Load
		}
		if len(f.Processes) > 0 && !startsFlyproxy(line) {
			r.withoutFlyproxy(f, group, line)
			continue
		}
		inv, ok := r.invocation(at, line, dir)
		if !ok {
			continue
		}
		p := place{prefix: "env.", env: f.Env, at: at, mode: inv.Mode}
		if p.cfg = r.configuration(&p); p.cfg == nil {
			return r.sorted()
		}
		all = append(all, p)
		r.hasAnApp(f, group, line, inv, &p)
		r.listeners(f, group, &p, r)
		if isSupervisord(line) {
			for _, fault := range r.supervisordStops(line, &p, dir) {
				if !slices.Contains(more, fault) { // another group may have the same file
					more = append(more, fault)
				}
			}
		}
		if t, w := r.stopTime(at, line, inv, p.cfg, dir); t > need {
			need, whose = t, w
		}
	}
	r.warnings(all)
	r.stops(f, need, whose)
	return append(r.sorted(), more...)
}

// startsFlyproxy tells whether the command line of a process group starts flyproxy, by itself or under supervisord.
func startsFlyproxy(line []string) bool { return IsFlyproxy(line) || isSupervisord(line) }

func isSupervisord(line []string) bool { return len(line) > 0 && path.Base(line[0]) == "supervisord" }

// invocation reads the command line at a key: of flyproxy itself, or of the one that supervisord starts. Without any the image says what
// is started, and that is taken to be a sidecar. It is not ok where there is nothing to go on with, of which all has been said.
func (r *report) invocation(at string, line []string, dir string) (inv Invocation, ok bool) {
	switch {
	case len(line) == 0:
		return Invocation{Command: "serve"}, true
	case isSupervisord(line):
		return r.supervised(at, filepath.Join(dir, supervisordConf)), true
	}
	inv, err := ParseCommand(line)
	var wrong *CommandError
	switch {
	case errors.As(err, &wrong):
		r.fault(at, wrong.Fix, "%s", wrong.Problem)
		return inv, false
	case !inv.Serves():
		r.fault(at, "write flyproxy serve, or flyproxy run -- and the app", "flyproxy %s accepts no calls", inv.Command)
		return inv, false
	}
	return inv, true
}

// noSecretsAt faults variables of an environment, whose keys begin with prefix, that have to be secrets.
func (r *report) noSecretsAt(prefix string, env map[string]any) {
	secrets := slices.Clone(secretNames)
	for _, k := range config.Keys() {
		if k.Secret && k.Env != "" {
			secrets = append(secrets, k.Env)
		}
	}
	for name := range env {
		if slices.Contains(secrets, name) {
			r.fault(prefix+name, "remove it, and run: fly secrets set "+name+"=…", "secrets do not belong into a file")
		}
	}
}

func (r *report) ready(f *File, group string, port int) {
	checks := make(map[string]*Check)
	for name, c := range f.Checks {
		if f.Applies(c.Processes, group) && c.Port != nil && c.Type == "http" {
			checks[name] = c
			if *c.Port == port && c.Path == admin.PathReady {
				r.checkFits("checks."+name, c)
				return
			}
		}
	}
	r.fault("checks", fmt.Sprintf(`add one of type http, port %d, path %s, with %q among its processes`, port, admin.PathReady, group),
		"no check awaits flyproxy in group %s, so a deploy does not either", group)
	for name, c := range checks { // which one may have been meant
		switch {
		case *c.Port == port:
			r.fault("checks."+name+".path", "write "+admin.PathReady, "flyproxy's readiness is not at %s", c.Path)
		case c.Path == admin.PathReady:
			r.fault("checks."+name+".port", fmt.Sprintf("write %d, or set FLYPROXY_ADMIN_LISTEN in [env]", port),
				"flyproxy's admin listener is not on %d", *c.Port)
		}
	}
}

func (r *report) scraped(f *File, group string, port int) {
	for i, m := range f.Metrics {
		if !f.Applies(m.Processes, group) {
			continue
		}
		key := fmt.Sprintf("metrics[%d]", i)
		if m.Port != port {
			r.fault(key+".port", fmt.Sprintf("write %d", port), "flyproxy's metrics are not on %d", m.Port)
		}
		if m.Path != admin.PathMetrics {
			r.fault(key+".path", "write "+admin.PathMetrics, "flyproxy's metrics are not at %s", m.Path)
		}
		return
	}
	r.fault("metrics", fmt.Sprintf("add port %d, path %s, with %q among its processes", port, admin.PathMetrics, group),
		"nothing scrapes flyproxy in group %s", group)
}

// stops checks the end of a Machine: that flyproxy gets a signal it drains on, and the time that it and the app need.
func (r *report) stops(f *File, need time.Duration, whose string) {
	switch f.KillSignal {
	case "SIGTERM", "SIGINT":
	case "":
		r.fault("kill_signal", `write kill_signal = "SIGTERM"`, "it is not set, and what Fly sends then is documented in two ways")
	default:
		r.fault("kill_signal", `write "SIGTERM"`, "flyproxy does not drain on %s", f.KillSignal)
	}
	have, err := duration(f.KillTimeout, time.Second)
	if f.KillTimeout == nil {
		have, err = 5*time.Second, nil // the platform's default
	}
	if err == nil && have <= need { // the error is said by Load
		r.fault("kill_timeout", fmt.Sprintf("write more than %d", int(need.Seconds())), "%v is too short for %s: %v", have, whose, need)
	}
}

// stopTime is how long a group's Machine may take to end, and by what.
func (r *report) stopTime(at string, line []string, inv Invocation, cfg *config.Config, dir string) (takes time.Duration, whose string) {
	switch {
	case isSupervisord(line):
		return r.supervisordTime(at, filepath.Join(dir, supervisordConf))
	case inv.Command == "run":
		return cfg.Drain.Settle + cfg.Run.StopTimeout + cfg.Drain.Timeout, "flyproxy run's drain.settle, run.stop_timeout and drain.timeout"
	}
	return cfg.Drain.Timeout, "flyproxy's drain.timeout"
}

package flyconfig

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/config"
)

// secretNames are variables that the apps of a deployment keep secret, beside those of flyproxy's own keys.
var secretNames = []string{
	"REDIS_URL", "REDIS_PASSWORD", "JWT_SECRET", "SMTP_USER", "SMTP_PASS", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_KEY",
}

// Agree gives what of a file does not fit flyproxy as it would run there with the file's [env]: ports, paths, times, and which
// groups are checked and scraped. Dir is where supervisord.conf is looked for, whose times have to fit into kill_timeout.
func Agree(f *File, dir string) []Fault {
	r := &report{file: f.path, line: f.line}
	r.noSecretsAt("env.", f.Env)
	var need time.Duration
	whose := ""
	for _, group := range f.Groups() {
		command := f.Processes[group]
		if len(f.Processes) > 0 && !RunsFlyproxy(command) {
			continue
		}
		cfg := r.configuration("env.", f.Env, "processes."+group, command)
		if cfg == nil {
			return r.sorted()
		}
		port, _ := adminAndListenPorts(cfg)
		r.ready(f, group, port)
		r.scraped(f, group, port)
		if t, w := r.stopTime(group, command, cfg, dir); t > need {
			need, whose = t, w
		}
	}
	r.stops(f, need, whose)
	if f.MachineConfig != "" {
		return append(r.sorted(), agreeContainers(f, dir)...)
	}
	return r.sorted()
}

// mode is what a command says after --mode.
func mode(command string) string {
	parts, err := words(command)
	if err != nil {
		return ""
	}
	for i, p := range parts {
		if value, ok := strings.CutPrefix(p, "--mode="); ok {
			return value
		}
		if p == "--mode" && i+1 < len(parts) {
			return parts[i+1]
		}
		if p == "--" {
			break // what follows is the app's
		}
	}
	return ""
}

// RunsFlyproxy tells whether the command of a process group starts flyproxy, by itself or under supervisord.
func RunsFlyproxy(command string) bool {
	parts, err := words(command)
	return err == nil && len(parts) > 0 && slices.Contains([]string{"flyproxy", "supervisord"}, path.Base(parts[0]))
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

// configuration is flyproxy's in a Machine with that environment, whose keys begin with prefix, and started by the command that
// stands at a key; nil where it is not good.
func (r *report) configuration(prefix string, env map[string]any, at, command string) *config.Config {
	environ := []string{
		"FLYPROXY_MODE=" + mode(command), // an empty one counts as not set
		"FLY_APP_NAME=app", "FLY_MACHINE_ID=machine", "FLY_REGION=ams", "FLY_PRIVATE_IP=fdaa::3", "REDIS_HOST=redis.internal",
	}
	for name, value := range env {
		environ = append(environ, fmt.Sprintf("%s=%v", name, value))
	}
	cfg, err := config.Load(config.Options{Environ: environ, Hostname: "machine"})
	var faults *config.Error
	switch {
	case err == nil:
		return cfg
	case errors.As(err, &faults):
		for _, f := range faults.Faults {
			key := strings.TrimSuffix(prefix, ".")
			if _, set := env[f.Source]; set {
				key = prefix + f.Source
			} else if f.Source == "FLYPROXY_MODE" {
				key = at
			}
			what := f.Problem
			if f.Key != "" {
				what = f.Key + ": " + what
			}
			r.fault(key, f.Fix, "flyproxy: %s", what)
		}
	default:
		r.fault(strings.TrimSuffix(prefix, "."), "", "flyproxy: %v", err)
	}
	return nil
}

func (r *report) ready(f *File, group string, port int) {
	checks := make(map[string]*Check)
	for name, c := range f.Checks {
		if f.Applies(c.Processes, group) && c.Port != nil && c.Type == "http" {
			checks[name] = c
			if *c.Port == port && c.Path == admin.PathReady {
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
func (r *report) stopTime(group, command string, cfg *config.Config, dir string) (takes time.Duration, whose string) {
	parts, err := words(command)
	if err != nil {
		return 0, "" // said by Load
	}
	switch {
	case len(parts) > 0 && path.Base(parts[0]) == "supervisord":
		return r.supervisord("processes."+group, filepath.Join(dir, "supervisord.conf"))
	case len(parts) > 1 && parts[1] == "run":
		return cfg.Drain.Settle + cfg.Run.StopTimeout + cfg.Drain.Timeout, "flyproxy run's drain.settle, run.stop_timeout and drain.timeout"
	}
	return cfg.Drain.Timeout, "flyproxy's drain.timeout"
}

// supervisord gives the time that the programs of a file may take to stop; none where the file is not there, as for an image that
// is built elsewhere.
func (r *report) supervisord(key, file string) (takes time.Duration, whose string) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, ""
	}
	takes, err = StopTime(text)
	if err != nil {
		r.fault(key, "correct "+file, "%v", err)
	}
	return takes, "what " + file + " gives its programs to stop"
}

package flyconfig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
)

// containersAgree reports what of the containers that f names does not fit flyproxy. Top is the report of fly.toml.
func (r *report) containersAgree(f *File, dir string, top *report) {
	file := filepath.Join(dir, f.MachineConfig)
	data, err := os.ReadFile(file)
	if err != nil {
		return // said by Load
	}
	m, _ := ParseMachine(file, data)
	if m == nil {
		return
	}
	r.file, r.line = file, jsonLines(data).of
	var sidecar *place
	sidecars := 0
	for i := range m.Containers {
		c := &m.Containers[i]
		key := fmt.Sprintf("containers[%d]", i)
		r.noSecretsAt(key+".env.", envOf(c))
		r.stopsWithin(key, c, f)
		if c.Image == "." && len(c.Files) == 0 && len(c.Mounts) == 0 {
			r.inTheImage(f, f.defaultGroup(), commandKey(key, c), "container "+c.Name, commandLine(c), top)
		}
		inv, flyproxy := r.containerInvocation(key, c)
		if !flyproxy {
			continue
		}
		sidecars++
		p := place{prefix: key + ".env.", env: envOf(c), at: commandKey(key, c), mode: inv.Mode}
		r.sidecar(key, c, &p)
		if p.cfg != nil {
			sidecar = &p
			r.listeners(f, f.defaultGroup(), &p, top)
			r.warnings([]place{p})
			top.stops(f, p.cfg.Drain.Timeout, "flyproxy's drain.timeout")
		}
	}
	if sidecars != 1 {
		r.fault("containers", `give one container "cmd": ["flyproxy", "serve"]`, "%d containers run flyproxy", sidecars)
		return
	}
	for i := range m.Containers {
		if sidecar != nil {
			r.appContainer(fmt.Sprintf("containers[%d]", i), &m.Containers[i], sidecar)
		}
	}
}

// containerInvocation reads a container's command; flyproxy tells whether that is one which accepts calls, or is meant to.
func (r *report) containerInvocation(key string, c *Container) (inv Invocation, flyproxy bool) {
	line := commandLine(c)
	if !IsFlyproxy(line) {
		return inv, false
	}
	inv, err := ParseCommand(line)
	var wrong *CommandError
	if errors.As(err, &wrong) {
		r.fault(commandKey(key, c), wrong.Fix, "%s", wrong.Problem)
		return inv, true
	}
	return inv, inv.Serves() // flyproxy wait starts an app
}

// appContainer checks that a container's app is where flyproxy looks for it, and is asked there.
func (r *report) appContainer(key string, c *Container, sidecar *place) {
	text, set := c.Env["GRPC_PORT"]
	port, err := strconv.Atoi(text)
	if !set || err != nil || len(sidecar.cfg.Apps) != 1 {
		return
	}
	expected := sidecar.cfg.Apps[0].Port()
	if port != expected {
		r.fault(key+".env.GRPC_PORT", fmt.Sprintf("write the same in both containers, such as %d", expected),
			"%s serves on %d, and flyproxy looks for the app on %d", c.Name, port, expected)
	}
	for i, h := range c.Healthchecks {
		if h.TCP != nil && h.TCP.Port != port && (h.TCP.Port == expected || h.TCP.Port == defaultAppPort) {
			r.fault(fmt.Sprintf("%s.healthchecks[%d].tcp.port", key, i), fmt.Sprintf("write %d", port), "%s serves on %d, not on %d", c.Name, port, h.TCP.Port)
		}
	}
}

// defaultAppPort is the port of an app that says none.
const defaultAppPort = 50051

func commandLine(c *Container) []string { return slices.Concat(c.Exec, c.Entrypoint, c.Cmd) }

// commandKey is where the first words of a container's command stand.
func commandKey(key string, c *Container) string {
	switch {
	case len(c.Exec) > 0:
		return key + ".exec"
	case len(c.Entrypoint) > 0:
		return key + ".entrypoint"
	}
	return key + ".cmd"
}

func envOf(c *Container) map[string]any {
	env := make(map[string]any)
	for name, value := range c.Env {
		env[name] = value
	}
	return env
}

// sidecar checks the container that runs flyproxy: that it is told who it is, and is asked where it listens.
func (r *report) sidecar(key string, c *Container, p *place) {
	for _, name := range []string{"FLY_APP_NAME", "FLY_MACHINE_ID", "FLY_REGION", "FLY_PRIVATE_IP"} {
		if !slices.ContainsFunc(c.EnvFrom, func(e EnvFrom) bool { return e.EnvVar == name }) {
			r.fault(key+".env_from", "add it with its field_ref", "%s is missing, by which flyproxy knows the Machine", name)
		}
	}
	if p.cfg = r.configuration(p); p.cfg == nil {
		return
	}
	_, adminPort := hostPort(p.cfg.Admin.Listen)
	var ports []int
	for _, address := range append(slices.Clone(p.cfg.Listen), p.cfg.Admin.Listen) {
		if _, port := hostPort(address); port != 0 {
			ports = append(ports, port)
		}
	}
	for i := range c.Healthchecks {
		h := &c.Healthchecks[i]
		at := fmt.Sprintf("%s.healthchecks[%d]", key, i)
		switch {
		case h.HTTP != nil && h.HTTP.Port != adminPort:
			r.fault(at+".http.port", fmt.Sprintf("write %d", adminPort), "flyproxy's admin listener is not on %d", h.HTTP.Port)
		case h.HTTP != nil && h.HTTP.Path != admin.PathReady && h.HTTP.Path != admin.PathHealth:
			r.fault(at+".http.path", "write "+admin.PathReady+" or "+admin.PathHealth, "flyproxy's health is not at %s", h.HTTP.Path)
		case h.HTTP != nil && h.HTTP.Path == admin.PathReady && h.Kind == "liveness":
			r.fault(at+".http.path", "write "+admin.PathHealth, "flyproxy is not dead when it is not ready: Redis may be away")
		case h.TCP != nil && !slices.Contains(ports, h.TCP.Port):
			r.fault(at+".tcp.port", fmt.Sprintf("write one of %v", ports), "flyproxy does not listen on %d", h.TCP.Port)
		}
	}
}

// stopsWithin checks that a container has no more time to stop than its Machine.
func (r *report) stopsWithin(key string, c *Container, f *File) {
	if c.Stop == nil || c.Stop.Timeout == nil {
		return
	}
	most, err := duration(f.KillTimeout, time.Second)
	own, ownErr := duration(c.Stop.Timeout, 1)
	if err == nil && ownErr == nil && own >= most {
		r.fault(key+".stop.timeout", "write less, or raise kill_timeout in "+f.path, "%v does not fit into the Machine's kill_timeout of %v", own, most)
	}
}

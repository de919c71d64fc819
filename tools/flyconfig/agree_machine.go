package flyconfig

import (
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/config"
)

// agreeContainers gives what of the containers that f names does not fit flyproxy.
func agreeContainers(f *File, dir string) []Fault {
	file := filepath.Join(dir, f.MachineConfig)
	data, err := os.ReadFile(file)
	if err != nil {
		return nil // said by Load
	}
	m, _ := ParseMachine(file, data)
	if m == nil {
		return nil
	}
	r := &report{file: file, line: jsonLines(data).of}
	sidecars := 0
	for i := range m.Containers {
		c := &m.Containers[i]
		key := fmt.Sprintf("containers[%d]", i)
		r.noSecretsAt(key+".env.", envOf(c))
		r.stopsWithin(key, c, f)
		if runsFlyproxy(c) {
			sidecars++
			r.sidecar(key, c)
		}
	}
	if sidecars != 1 {
		r.fault("containers", `give one container "cmd": ["flyproxy", "serve"]`, "%d containers run flyproxy", sidecars)
	}
	return r.sorted()
}

func envOf(c *Container) map[string]any {
	env := make(map[string]any)
	for name, value := range c.Env {
		env[name] = value
	}
	return env
}

func runsFlyproxy(c *Container) bool {
	command := slices.Concat(c.Exec, c.Entrypoint, c.Cmd)
	return len(command) > 0 && path.Base(command[0]) == "flyproxy"
}

// sidecar checks the container that runs flyproxy: that it is told who it is, and is asked where it listens.
func (r *report) sidecar(key string, c *Container) {
	for _, name := range []string{"FLY_APP_NAME", "FLY_MACHINE_ID", "FLY_REGION", "FLY_PRIVATE_IP"} {
		if !slices.ContainsFunc(c.EnvFrom, func(e EnvFrom) bool { return e.EnvVar == name }) {
			r.fault(key+".env_from", "add it with its field_ref", "%s is missing, by which flyproxy knows the Machine", name)
		}
	}
	cfg := r.configuration(key+".env.", envOf(c), key+".cmd", strings.Join(slices.Concat(c.Exec, c.Entrypoint, c.Cmd), " "))
	if cfg == nil {
		return
	}
	adminPort, ports := adminAndListenPorts(cfg)
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

// adminAndListenPorts gives the port of the admin listener and all TCP ports that are listened on.
func adminAndListenPorts(cfg *config.Config) (adminPort int, ports []int) {
	for _, address := range append(slices.Clone(cfg.Listen), cfg.Admin.Listen) {
		if _, text, err := net.SplitHostPort(address); err == nil {
			if port, err := strconv.Atoi(text); err == nil {
				ports = append(ports, port)
				adminPort = port // the last is admin's
			}
		}
	}
	return adminPort, ports
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

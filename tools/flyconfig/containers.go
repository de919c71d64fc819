package flyconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
)

// containers checks the file that machine_config names, and what fly.toml says of it.
func (r *report) containers(f *File, dir string) []Fault {
	if !strings.HasSuffix(f.MachineConfig, ".json") {
		r.faults = nil
		r.fault("machine_config", "name a .json file", "%q is not accepted", f.MachineConfig)
		return r.faults
	}
	path := filepath.Join(dir, f.MachineConfig)
	data, err := os.ReadFile(path)
	if err != nil {
		r.faults = nil
		r.fault("machine_config", "it is a path from the directory in which fly is run", "%s is not there", path)
		return r.faults
	}
	m, faults := ParseMachine(path, data)
	if m != nil && f.Container != "" && !slices.ContainsFunc(m.Containers, func(c Container) bool { return c.Name == f.Container }) {
		r.faults = nil
		r.fault("container", "write the name of one", "%s has no container %q", path, f.Container)
		faults = append(r.faults, faults...)
	}
	return faults
}

// ParseMachine reads the JSON of machine_config strictly; path is for its faults. The Machine is nil where it cannot be read.
func ParseMachine(path string, data []byte) (*Machine, []Fault) {
	at := jsonLines(data)
	r := &report{file: path, line: at.of}
	var m Machine
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(&m)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the closing brace")
		}
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
	case r.unknownFields(at):
		m = Machine{}
		if json.Unmarshal(data, &m) != nil {
			return nil, r.sorted()
		}
	case errors.As(err, &syntax):
		line := 1 + bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n"))
		r.faults = append(r.faults, Fault{File: path, Line: line, Problem: syntax.Error(), Fix: "it has to be JSON, without comments"})
		return nil, r.sorted()
	case errors.As(err, &kind):
		line := 1 + bytes.Count(data[:kind.Offset], []byte("\n"))
		r.faults = append(r.faults, Fault{
			File: path, Line: line, Key: kind.Field, Problem: "a " + kind.Value + " is not accepted", Fix: "write " + kindName(kind.Type.String()),
		})
		return nil, r.sorted()
	default:
		r.fault("", "it has to be JSON, without comments", "%v", err)
		return nil, r.sorted()
	}
	r.machine(&m)
	return &m, r.sorted()
}

// unknownFields reports the keys that the types do not have, and whether there are any.
func (r *report) unknownFields(at lines) bool {
	found := false
	for key := range at {
		var path []string
		for part := range strings.SplitSeq(key, ".") {
			name, _, _ := strings.Cut(part, "[")
			path = append(path, name)
		}
		last := len(path) - 1
		known := keysAt(reflect.TypeFor[Machine](), "json", path[:last])
		if len(known) > 0 && !slices.Contains(known, path[last]) {
			r.fault(key, suggestOf(reflect.TypeFor[Machine](), "json", path), "unknown key, which Fly ignores or fly.toml has")
			found = true
		}
	}
	return found
}

func (r *report) machine(m *Machine) {
	if len(m.Containers) == 0 {
		r.fault("containers", "write at least one", "there are no containers")
	}
	names := make(map[string]bool)
	for i := range m.Containers {
		c := &m.Containers[i]
		key := fmt.Sprintf("containers[%d]", i)
		if c.Name == "" || names[c.Name] {
			r.fault(key+".name", "give it one of its own", "%q is missing or taken", c.Name)
		}
		names[c.Name] = true
		r.container(key, c)
	}
	for i := range m.Containers {
		r.dependencies(fmt.Sprintf("containers[%d].depends_on", i), m, &m.Containers[i])
	}
	r.cycles(m)
}

func (r *report) container(key string, c *Container) {
	if c.Image == "" {
		r.fault(key+".image", `write "." for the image that is built, or a reference`, "there is no image")
	}
	if c.Restart != nil {
		r.oneOf(key+".restart.policy", c.Restart.Policy, "always", "on-failure", "no")
	}
	if s := c.Stop; s != nil {
		if s.Signal != "" {
			r.oneOf(key+".stop.signal", s.Signal, signals...)
		}
		if d, ok := r.duration(key+".stop.timeout", s.Timeout, 1); ok && d < time.Second {
			r.fault(key+".stop.timeout", `write text with a unit, such as "15s"`, "a number counts nanoseconds here")
		}
	}
	for i, e := range c.EnvFrom {
		at := fmt.Sprintf("%s.env_from[%d]", key, i)
		r.oneOf(at+".field_ref", e.FieldRef, "id", "version", "app_name", "private_ip", "region", "image")
		if e.EnvVar == "" {
			r.fault(at+".env_var", "write the variable's name", "there is no name")
		}
	}
	names := make(map[string]bool)
	for i := range c.Healthchecks {
		h := &c.Healthchecks[i]
		at := fmt.Sprintf("%s.healthchecks[%d]", key, i)
		if h.Name == "" || names[h.Name] {
			r.fault(at+".name", "give it one of its own", "%q is missing or taken", h.Name)
		}
		names[h.Name] = true
		r.healthcheck(at, h)
	}
}

func (r *report) healthcheck(key string, h *Healthcheck) {
	kinds := 0
	if h.HTTP != nil {
		kinds++
		r.port(key+".http.port", h.HTTP.Port)
		r.path(key+".http.path", h.HTTP.Path)
		if h.HTTP.Scheme != "" {
			r.oneOf(key+".http.scheme", h.HTTP.Scheme, "http", "https")
		}
	}
	if h.TCP != nil {
		kinds++
		r.port(key+".tcp.port", h.TCP.Port)
	}
	if h.Exec != nil {
		kinds++
		if len(h.Exec.Command) == 0 {
			r.fault(key+".exec.command", "write the command", "there is no command")
		}
	}
	if kinds != 1 {
		r.fault(key, "write one of http, tcp, exec", "a check is of one kind, here are %d", kinds)
	}
	if h.Kind != "" {
		r.oneOf(key+".kind", h.Kind, "readiness", "liveness")
	}
	if h.Unhealthy != "" {
		r.oneOf(key+".unhealthy", h.Unhealthy, "stop")
	}
}

func (r *report) dependencies(key string, m *Machine, c *Container) {
	for i, d := range c.DependsOn {
		at := fmt.Sprintf("%s[%d]", key, i)
		r.oneOf(at+".condition", d.Condition, "started", "healthy", "exited_successfully")
		n := slices.IndexFunc(m.Containers, func(c Container) bool { return c.Name == d.Name })
		switch {
		case n < 0:
			r.fault(at+".name", "write the name of another container", "there is no container %q", d.Name)
		case d.Condition == "healthy" && len(m.Containers[n].Healthchecks) == 0:
			r.fault(at+".condition", "give it healthchecks, or wait for started", "%s has no healthchecks and never becomes healthy", d.Name)
		}
	}
}

// cycles faults containers that wait for each other.
func (r *report) cycles(m *Machine) {
	needs := make(map[string][]string)
	for _, c := range m.Containers {
		for _, d := range c.DependsOn {
			needs[c.Name] = append(needs[c.Name], d.Name)
		}
	}
	for i, c := range m.Containers {
		seen := make(map[string]bool)
		next := needs[c.Name]
		for len(next) > 0 {
			name := next[0]
			next = next[1:]
			if name == c.Name {
				r.fault(fmt.Sprintf("containers[%d].depends_on", i), "take one dependency out", "%s waits for itself", c.Name)
				break
			}
			if !seen[name] {
				seen[name] = true
				next = append(next, needs[name]...)
			}
		}
	}
}

// jsonLines knows on which line each key of a JSON document stands, as far as it is one.
func jsonLines(data []byte) lines {
	l := make(lines)
	d := json.NewDecoder(bytes.NewReader(data))
	l.value(d, data, "")
	return l
}

// value reads one value, whose key is at path; false ends the reading.
func (l lines) value(d *json.Decoder, data []byte, path string) bool {
	t, err := d.Token()
	if err != nil {
		return false
	}
	switch t {
	case json.Delim('{'):
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return false
			}
			key := fmt.Sprint(name)
			if path != "" {
				key = path + "." + key
			}
			l[key] = 1 + bytes.Count(data[:d.InputOffset()], []byte("\n"))
			if !l.value(d, data, key) {
				return false
			}
		}
	case json.Delim('['):
		for i := 0; d.More(); i++ {
			if !l.value(d, data, fmt.Sprintf("%s[%d]", path, i)) {
				return false
			}
		}
	default:
		return true
	}
	_, err = d.Token()
	return err == nil
}

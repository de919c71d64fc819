package flyconfig

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// DefaultGroup is the group of a file without [processes], and the one that sections without a processes key apply to.
const DefaultGroup = "app"

// Groups are the names of the process groups, sorted.
func (f *File) Groups() []string {
	if len(f.Processes) == 0 {
		return []string{DefaultGroup}
	}
	return slices.Sorted(maps.Keys(f.Processes))
}

// defaultGroup is app, else the first by name.
func (f *File) defaultGroup() string {
	groups := f.Groups()
	if slices.Contains(groups, DefaultGroup) {
		return DefaultGroup
	}
	return groups[0]
}

// Applies tells whether a section with that processes key applies to a group. A [[vm]] without one applies to every group, all
// other sections to the default group only: the pitfall that [report.processes] warns of.
func (f *File) Applies(processes []string, group string) bool {
	if len(processes) == 0 {
		return group == f.defaultGroup()
	}
	return slices.Contains(processes, group)
}

// A section is what has a processes key.
type section struct {
	key       string
	processes []string
	// service: without processes it is an error, once there are groups. everywhere: without processes it is for every group.
	service, everywhere bool
}

func (f *File) sections() []section {
	var all []section
	add := func(key string, processes []string) { all = append(all, section{key: key, processes: processes}) }
	for _, name := range slices.Sorted(maps.Keys(f.Checks)) {
		add("checks."+name, f.Checks[name].Processes)
	}
	for i, m := range f.Metrics {
		add(fmt.Sprintf("metrics[%d]", i), m.Processes)
	}
	for i, s := range f.Restart {
		add(fmt.Sprintf("restart[%d]", i), s.Processes)
	}
	for i, m := range f.Mounts {
		add(fmt.Sprintf("mounts[%d]", i), m.Processes)
	}
	for i, g := range f.Files {
		add(fmt.Sprintf("files[%d]", i), g.Processes)
	}
	for i, v := range f.VM {
		all = append(all, section{key: fmt.Sprintf("vm[%d]", i), processes: v.Processes, everywhere: true})
	}
	for i, s := range f.Services {
		all = append(all, section{key: fmt.Sprintf("services[%d]", i), processes: s.Processes, service: true})
	}
	if f.HTTPService != nil {
		all = append(all, section{key: "http_service", processes: f.HTTPService.Processes, service: true})
	}
	return all
}

// processes checks the groups and which sections are for which.
func (r *report) processes(f *File) {
	for _, name := range slices.Sorted(maps.Keys(f.Processes)) {
		if command, err := words(f.Processes[name]); err != nil {
			r.fault("processes."+name, "close the quotation", "%v", err)
		} else if len(command) == 0 {
			r.fault("processes."+name, "write the command of the group", "there is no command")
		}
	}
	groups := f.Groups()
	for _, s := range f.sections() {
		for _, p := range s.processes {
			if !slices.Contains(groups, p) {
				r.fault(s.key+".processes", "write one of "+strings.Join(groups, ", "), "there is no process group %q", p)
			}
		}
		switch {
		case len(s.processes) > 0 || len(f.Processes) == 0 || s.everywhere:
		case s.service:
			r.fault(s.key, `write processes = ["`+f.defaultGroup()+`"]`, "a service without processes is refused where there are [processes]")
		case len(groups) > 1:
			r.fault(s.key, `write processes = ["`+strings.Join(groups, `", "`)+`"]`,
				"without processes it is for group %s only", f.defaultGroup())
		}
	}
	r.once(f, groups)
}

// once faults what a group can have only one of.
func (r *report) once(f *File, groups []string) {
	for _, g := range groups {
		seen := make(map[string]string)
		for _, s := range f.sections() {
			kind, _, list := strings.Cut(s.key, "[")
			applies := f.Applies(s.processes, g)
			if s.everywhere { // one for every group gives way to one for this group
				applies = slices.Contains(s.processes, g) || len(s.processes) == 0
				kind = fmt.Sprint(kind, len(s.processes) == 0)
			}
			if !list || kind == "files" || kind == "services" || !applies {
				continue
			}
			if first := seen[kind]; first != "" {
				r.fault(s.key, "keep one", "group %s has one already: %s", g, first)
			}
			seen[kind] = s.key
		}
	}
}

package flyconfig

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// inTheImage checks that the image has what a command starts, at a key and of a group or a container: its program, the app behind it,
// supervisord's configuration. Nothing is said where that cannot be told without building the image. Top is the report of fly.toml, where the
// target is.
func (r *report) inTheImage(f *File, group, at, whose string, line []string, top *report) {
	all, target := built(f)
	if target == nil || len(line) == 0 {
		return
	}
	programs := []string{line[0]}
	if IsFlyproxy(line) {
		if inv, err := ParseCommand(line); err == nil && len(inv.App) > 0 {
			programs = append(programs, inv.App[0])
		}
	}
	called := "the last target of the Dockerfile"
	if target.target != "" {
		called = fmt.Sprintf("target %q", target.target)
	}
	for _, program := range programs {
		if target.program(program) != absent || f.puts(program, group) {
			continue
		}
		var others []string
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if name != "" && all[name].program(program) == present {
				others = append(others, name)
			}
		}
		if len(others) > 0 {
			top.fault("build.build-target", "write build-target = "+quoted(others), "%s has no %s, which %s starts", called, program, whose)
			return
		}
		r.fault(at, "copy or install it in the Dockerfile, or correct its name", "%s has no %s", called, program)
	}
	conf := supervisordFlag(line)
	if !path.IsAbs(conf) || target.file(conf) != absent || f.puts(conf, group) || target.program(line[0]) == absent {
		return
	}
	fix := "copy it there in the Dockerfile"
	if at := target.copied(supervisordConf); at != "" {
		fix = "write " + at
	}
	r.fault(at, fix, "%s has no %s", called, conf)
}

// puts tells whether Fly puts a file to a path, or mounts something over it.
func (f *File) puts(name, group string) bool {
	for _, g := range f.Files {
		if g.GuestPath == name && f.Applies(g.Processes, group) {
			return true
		}
	}
	for _, m := range f.Mounts {
		if m.Destination != "" && strings.HasPrefix(name, strings.TrimSuffix(m.Destination, "/")+"/") && f.Applies(m.Processes, group) {
			return true
		}
	}
	return false
}

// copied is where the image has a file that is copied by that name; empty where none is.
func (i *image) copied(base string) string {
	for _, s := range i.steps {
		for _, src := range s.sources {
			if path.Base(src) != base {
				continue
			}
			if strings.HasSuffix(s.to, "/") {
				return s.to + base
			}
			return s.to
		}
	}
	return ""
}

// supervisordFlag is the file that -c names on a command line of supervisord.
func supervisordFlag(line []string) string {
	if !isSupervisord(line) {
		return ""
	}
	for i, word := range line {
		if value, ok := strings.CutPrefix(word, "--configuration="); ok {
			return value
		}
		if (word == "-c" || word == "--configuration") && i+1 < len(line) {
			return line[i+1]
		}
		if value, ok := strings.CutPrefix(word, "-c"); ok && value != "" {
			return value
		}
	}
	return ""
}

func quoted(names []string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(all, " or ")
}

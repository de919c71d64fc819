package flyconfig

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// StopTime is how long supervisord may take to stop everything in a supervisord.conf: programs of different priority are stopped
// one after the other, those of one priority together (supervisord.org, priority and stopwaitsecs).
func StopTime(conf []byte) (time.Duration, error) {
	all, err := sections(conf)
	if err != nil {
		return 0, err
	}
	longest := make(map[int]time.Duration)
	for _, p := range all {
		longest[p.Priority] = max(longest[p.Priority], p.StopWait)
	}
	var sum time.Duration
	for _, d := range longest {
		sum += d
	}
	return sum, nil
}

// Program is a [program:x] of supervisord.conf.
type Program struct {
	Name, Command string
	// Priority orders: lower ones are started first and stopped last.
	Priority int
	StopWait time.Duration

	// Signal is what it is stopped with, without SIG.
	Signal string

	environment map[string]string
	listener    bool
}

// Programs reads the programs of a supervisord.conf, in its order.
func Programs(conf []byte) ([]Program, error) {
	all, err := sections(conf)
	return slices.DeleteFunc(all, func(p Program) bool { return p.listener }), err
}

// sections reads the programs and the event listeners, which are stopped like programs.
func sections(conf []byte) ([]Program, error) {
	var all []Program
	var in *Program
	for _, s := range settings(conf) {
		if s.key == "" {
			in = nil
			kind, name, _ := strings.Cut(s.section, ":")
			p := Program{Name: name, Priority: 999, StopWait: 10 * time.Second, Signal: "TERM"}
			switch kind {
			case "program":
			case "eventlistener":
				p.Priority, p.listener = -1, true
			default:
				continue
			}
			all = append(all, p)
			in = &all[len(all)-1]
			continue
		}
		if in == nil {
			continue
		}
		number, err := strconv.Atoi(s.value)
		switch s.key {
		case "priority":
			in.Priority = number
		case "stopwaitsecs":
			in.StopWait = time.Duration(number) * time.Second
		default:
			err = nil
		}
		switch s.key {
		case "command":
			in.Command = s.value
		case "stopsignal":
			in.Signal = strings.TrimPrefix(strings.ToUpper(s.value), "SIG")
		case "environment":
			in.environment = pairs(s.value)
		}
		if err != nil {
			return nil, fmt.Errorf("supervisord.conf:%d: %s of %s: %q is no number", s.line, s.key, in.Name, s.value)
		}
	}
	return all, nil
}

// A setting is a key of a supervisord.conf with its value. The key is empty for the header of a section.
type setting struct {
	section, key, value string
	line                int
}

// settings reads a supervisord.conf in its order.
func settings(conf []byte) (all []setting) {
	section, n := "", 0
	for line := range strings.Lines(string(conf)) {
		n++
		text := strings.TrimSpace(line)
		switch {
		case text == "" || strings.HasPrefix(text, ";") || strings.HasPrefix(text, "#"):
			continue
		case strings.HasPrefix(text, "["):
			section = strings.Trim(text, "[]")
			all = append(all, setting{section: section, line: n})
			continue
		}
		text, _, _ = strings.Cut(text, " ;")
		if line[0] == ' ' || line[0] == '\t' { // goes on with the value before
			if len(all) > 0 && all[len(all)-1].key != "" {
				all[len(all)-1].value += "\n" + strings.TrimSpace(text)
			}
			continue
		}
		key, value, _ := strings.Cut(text, "=")
		all = append(all, setting{section, strings.TrimSpace(key), strings.TrimSpace(value), n})
	}
	return all
}

// settingLines knows on which line each setting stands, as program:app.priority, and each section.
func settingLines(conf []byte) lines {
	l := make(lines)
	for _, s := range settings(conf) {
		if s.key == "" {
			l[s.section] = s.line
		} else {
			l[s.section+"."+s.key] = s.line
		}
	}
	return l
}

var pair = regexp.MustCompile(`(\w+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^,\s]*))`)

// pairs reads the value of an environment.
func pairs(text string) map[string]string {
	all := make(map[string]string)
	for _, m := range pair.FindAllStringSubmatch(text, -1) {
		all[m[1]] = m[2] + m[3] + m[4]
	}
	return all
}

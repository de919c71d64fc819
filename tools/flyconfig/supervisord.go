package flyconfig

import (
	"fmt"
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

	listener bool
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
	n := 0
	for line := range strings.Lines(string(conf)) {
		n++
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, ";") || strings.HasPrefix(text, "#") {
			continue
		}
		if strings.HasPrefix(text, "[") {
			in = nil
			kind, name, _ := strings.Cut(strings.Trim(text, "[]"), ":")
			if p := (Program{Name: name, Priority: 999, StopWait: 10 * time.Second}); kind == "program" {
				all = append(all, p)
			} else if kind == "eventlistener" {
				p.Priority, p.listener = -1, true
				all = append(all, p)
			} else {
				continue
			}
			in = &all[len(all)-1]
			continue
		}
		key, value, _ := strings.Cut(text, "=")
		value, _, _ = strings.Cut(value, " ;")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if in == nil || line[0] == ' ' || line[0] == '\t' { // the latter goes on with the value before
			continue
		}
		number, err := strconv.Atoi(value)
		switch key {
		case "command":
			in.Command, err = value, nil
		case "priority":
			in.Priority = number
		case "stopwaitsecs":
			in.StopWait = time.Duration(number) * time.Second
		default:
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("supervisord.conf:%d: %s of %s: %q is no number", n, key, in.Name, value)
		}
	}
	return all, nil
}

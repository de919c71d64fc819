package flyconfig

import (
	"fmt"
	"slices"
	"strings"
)

// A Fault is one thing that is wrong with a file.
type Fault struct {
	// File is the path as it was given; Line counts from 1, and 0 means that the fault has no line of its own.
	File string
	Line int
	// Key is where it stands: parts joined by dots, an item of a list as vm[0]. It may be empty.
	Key     string
	Problem string
	// Fix says what to do.
	Fix string
}

// String is file:line: key: problem; fix.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": ")
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Problem)
	if f.Fix != "" {
		b.WriteString("; " + f.Fix)
	}
	return b.String()
}

// report gathers the faults of one file.
type report struct {
	file string
	// line finds the line of a key; nil where lines are not known.
	line   func(key string) int
	faults []Fault
}

func (r *report) fault(key, fix, format string, args ...any) {
	line := 0
	if r.line != nil {
		line = r.line(key)
	}
	f := Fault{File: r.file, Line: line, Key: key, Problem: fmt.Sprintf(format, args...), Fix: fix}
	if !slices.Contains(r.faults, f) { // which two process groups may find
		r.faults = append(r.faults, f)
	}
}

// sorted gives the faults in the order of the file.
func (r *report) sorted() []Fault {
	slices.SortStableFunc(r.faults, func(a, b Fault) int { return a.Line - b.Line })
	return r.faults
}

// oneOf faults a value that is not among those accepted.
func (r *report) oneOf(key, value string, accepted ...string) {
	if !slices.Contains(accepted, value) {
		r.fault(key, "write one of "+strings.Join(accepted, ", "), "%q is not accepted", value)
	}
}

// port faults what is no TCP port.
func (r *report) port(key string, port int) {
	if port < 1 || port > 65535 {
		r.fault(key, "write one from 1 to 65535", "%d is no port", port)
	}
}

// path faults what is no path of an HTTP request.
func (r *report) path(key, path string) {
	if !strings.HasPrefix(path, "/") {
		r.fault(key, "begin it with /", "%q is no path", path)
	}
}

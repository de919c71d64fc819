package config

import (
	"fmt"
	"strings"
)

// A Fault is one thing that is wrong with the configuration.
type Fault struct {
	// Key is the key as in the file, its parts joined by dots; empty when the fault is not about one key.
	Key string
	// Value is what stands there, masked where it may be secret; empty when showing it would not help.
	Value string
	// Source is where it stands: "flyproxy.yaml:12", "FLYPROXY_LISTEN", "default".
	Source string
	// Problem says what is wrong.
	Problem string
	// Fix says what would be right; empty when the problem says it all.
	Fix string
}

// String is the fault in one line.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Source)
	if f.Key != "" {
		b.WriteString(": " + f.Key)
	}
	if f.Value != "" {
		fmt.Fprintf(&b, " = %q", f.Value)
	}
	b.WriteString(": " + f.Problem)
	if f.Fix != "" {
		b.WriteString("; " + f.Fix)
	}
	return b.String()
}

// Error is every fault of a configuration, in the order: file, environment, what they mean together.
type Error struct {
	Faults []Fault
	// Warnings were found along the way.
	Warnings []Warning
	// Partial is what there would be without the values that were refused, each replaced by that of the layer below. It has not
	// passed the checks: it is for who looks for further faults, and nothing may be run with it. It may be nil.
	Partial *Config
}

// Error lists the faults, one a line.
func (e *Error) Error() string {
	var b strings.Builder
	if len(e.Faults) == 1 {
		b.WriteString("1 fault in the configuration:")
	} else {
		fmt.Fprintf(&b, "%d faults in the configuration:", len(e.Faults))
	}
	for _, f := range e.Faults {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// A Warning is about something that is not wrong but may not be what was meant.
type Warning struct {
	Key, Source, Text string
}

// String is the warning in one line.
func (w Warning) String() string { return w.Source + ": " + w.Key + ": " + w.Text }

// level ranks where a value comes from; the higher one is in force.
type level uint8

const (
	fromNowhere level = iota
	fromDefault
	fromFile
	fromShared // names such as REDIS_URL, which other programs read too
	fromEnvironment
)

// origin is where a value comes from.
type origin struct {
	level  level
	source string
}

func (o origin) String() string { return o.source }

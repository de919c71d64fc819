package doctor

import "time"

// Level is how bad a finding is. The greater, the worse.
type Level uint8

// The levels.
const (
	// OK is how it should be.
	OK Level = iota
	// Note is worth knowing, and nothing need be done.
	Note
	// Warning works now, and may not do so later or not do what was meant.
	Warning
	// Error does not work.
	Error
)

// String is the level as it is shown, and written in JSON.
func (l Level) String() string { return [...]string{"ok", "note", "warning", "error"}[min(l, Error)] }

// MarshalText implements [encoding.TextMarshaler].
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Finding is one thing that was found. No member has a secret in it.
type Finding struct {
	// Check is the group of checks that it is of, one of [Checks].
	Check string `json:"check"`
	// ID names the kind of finding, such as redis.password-wrong. It is what docs/troubleshooting.md goes by, and stays the same
	// from release to release. Every ID has one level.
	ID    string `json:"id"`
	Level Level  `json:"level"`
	// Subject is what it is about: an address, a key of the configuration, service/id of a peer. It may be empty.
	Subject string `json:"subject,omitempty"`
	// Found says what was found, Do what to do about it; Do may be empty, and is for what is OK.
	Found string `json:"found"`
	Do    string `json:"do,omitempty"`
}

// Report is all that was found. Members may be added; readers ignore those that they do not know.
type Report struct {
	// Version is that of the flyproxy that examined, StartedAt when it began, and TookMS for how long.
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	TookMS    int64     `json:"took_ms"`
	// Worst is the worst level of all findings.
	Worst Level `json:"worst"`
	// ConfigurationUsable is false when the configuration has faults, with which flyproxy does not start.
	ConfigurationUsable bool `json:"configuration_usable"`
	// Findings are in the order of the checks.
	Findings []Finding `json:"findings"`
}

// count is the number of findings of a level.
func (r *Report) count(l Level) int {
	n := 0
	for i := range r.Findings {
		if r.Findings[i].Level == l {
			n++
		}
	}
	return n
}

// findings are collected by one check, which is one goroutine.
type findings struct {
	check string
	all   []Finding
}

// add notes a finding. Subject and do may be empty.
func (f *findings) add(k kind, subject, found, do string) {
	row := catalogue[k]
	f.all = append(f.all, Finding{Check: f.check, ID: row.id, Level: row.level, Subject: subject, Found: found, Do: do})
}

// skip notes that something was not checked, because something else is not as it should be.
func (f *findings) skip(subject, because string) {
	f.add(notChecked, subject, "not checked, because "+because, "")
}

package discovery

import (
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// State says how far the view may be trusted.
type State string

// The states of a Discovery.
const (
	// Connecting means that no view has been read yet.
	Connecting State = "connecting"
	// Current means that the view is what the registry holds, as far as is known.
	Current State = "current"
	// Stale means that the view is in force although something was missed and could not be read again yet, or although the
	// registry has confirmed nothing for a lease.
	Stale State = "stale"
)

// Status is what can be said of a Discovery at one moment.
type Status struct {
	State State
	// Version and Source are those of the view.
	Version uint64
	Source  registry.Source
	// ConfirmedAt is when the registry last showed that the view is what it holds: by a snapshot, by a change that followed
	// without a gap, or by a beat with the view's version. Zero before the first view.
	ConfirmedAt time.Time
	// LastError is why the last watch or snapshot failed; empty once a snapshot has been read since.
	LastError string
	// Snapshots counts those read, Changes the messages applied, Gaps the times when something was found to be missing, Views
	// those published.
	Snapshots, Changes, Gaps, Views uint64
	// Instances is how many the view has, Held how many of them are only held.
	Instances, Held int
	// Rejected is how many records of the last snapshot failed their checks.
	Rejected int
}

// Status tells how things stand.
func (d *Discovery) Status() Status {
	d.statusMu.Lock()
	s := d.status
	d.statusMu.Unlock()
	if s.State == Current && time.Since(s.ConfirmedAt) > d.cfg.Lease {
		s.State = Stale
	}
	return s
}

func (d *Discovery) setStatus(s Status) {
	d.statusMu.Lock()
	defer d.statusMu.Unlock()
	d.status = s
}

package registrar

import (
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Phase is where a registration stands.
type Phase string

// The phases of a registration.
const (
	// Absent means that the Beater was never asked to register the key.
	Absent Phase = ""
	// Pending means that the record is to be written, for the first time or again.
	Pending Phase = "pending"
	// Registered means that the registry holds the record, as of the last beat.
	Registered Phase = "registered"
	// Superseded means that another process holds the record of this key.
	Superseded Phase = "superseded"
	// Withdrawing means that the record is to be removed.
	Withdrawing Phase = "withdrawing"
	// Withdrawn means that the record was removed.
	Withdrawn Phase = "withdrawn"
)

// KeyStatus is where the registration of one key stands.
type KeyStatus struct {
	Key   registry.Key
	Phase Phase
	// Err is why the last command about this key failed; nil after one that did not.
	Err error
	// Since is when the phase began.
	Since time.Time
	// Renewed is when the registry last confirmed the registration; zero for never.
	Renewed time.Time
}

// BeatStatus is the state of a [Beater] at one moment. It is immutable.
type BeatStatus struct {
	// LastBeat is when the last beat that was answered began, and Latency how long its answer took. Zero for never.
	LastBeat time.Time
	Latency  time.Duration
	// Version is the registry's, as of that beat.
	Version uint64
	// Failing counts the beats that failed since, and Err is why the last one did.
	Failing int
	Err     error
	Keys    []KeyStatus
}

// Status is the Beater's state as of its last event.
func (b *Beater) Status() BeatStatus { return *b.status.Load() }

// Standing is where the registration of key stands. A Put or Drop shows in it a moment later.
func (b *Beater) Standing(key registry.Key) KeyStatus {
	for _, k := range b.status.Load().Keys {
		if k.Key == key {
			return k
		}
	}
	return KeyStatus{Key: key}
}

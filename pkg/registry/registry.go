// Package registry is the contract between flyproxy's rooms and the place where instances are registered.
//
// It holds the words (Instance, Load, View), the Store interface that adapters fulfil, the form of a record and the checks
// that every record passes when it is read. It imports only the standard library; adapters import it and never each other.
package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// SchemaVersion is written into every record. Readers ignore fields that they do not know, so a newer number is no error: two
// versions of flyproxy share one registry during a deploy.
const SchemaVersion = 1

// DefaultWeight is the weight of an instance that names none.
const DefaultWeight = 100

// MaxWeight bounds a record's weight, so that one record cannot draw all calls to itself by an absurd number.
const MaxWeight = 10_000

// MaxAsk is how many keys' loads one beat may ask for.
const MaxAsk = 32

// State is what an instance says of itself.
type State string

// The states of an instance. One that is not healthy is not in the registry at all.
const (
	Serving  State = "serving"
	Draining State = "draining"
)

// Key names one instance: the service that it offers and its id, which is unique within the service.
type Key struct {
	Service string
	ID      string
}

// String is the key's form in the registry: service/id.
func (k Key) String() string { return k.Service + "/" + k.ID }

// ParseKey is the reverse of [Key.String]. A service has no slash; an id may have one (two apps of one service on a Machine).
func ParseKey(s string) (Key, error) {
	service, id, ok := strings.Cut(s, "/")
	if !ok || service == "" || id == "" {
		return Key{}, fmt.Errorf("%w: key %q is not service/id", ErrMalformed, clip(s))
	}
	return Key{Service: service, ID: id}, nil
}

// Instance is one registered gRPC server. Its JSON form is the record in the registry.
type Instance struct {
	Service string `json:"service"`
	// ID is the Machine id on Fly, else host name and a random part; two apps of one service on a Machine get id/appname.
	ID string `json:"id"`
	// Incarnation is new with every start of the process that registers, so an old process cannot touch a new one's record.
	Incarnation string `json:"incarnation"`
	// ClaimedAt is the version that [Store.Register] gave for the claim of this incarnation: the registry's time in µs, so of two
	// incarnations the one with the greater number is the newer. The record that the claim itself writes cannot know it and has
	// none; it ranks above every number.
	ClaimedAt uint64 `json:"claimed_at,omitempty"`
	Schema    int    `json:"schema"`
	// App is the Fly app's name; empty elsewhere.
	App          string `json:"app,omitempty"`
	Region       string `json:"region,omitempty"`
	ProcessGroup string `json:"process_group,omitempty"`
	// Address is what peers dial: host:port, the host an IP address (IPv6 in brackets) or a DNS name.
	Address  string `json:"address"`
	GRPCPort int    `json:"grpc_port"`
	IsFly    bool   `json:"is_fly,omitempty"`
	// Weight is relative to the other instances of the service; 0 means [DefaultWeight].
	Weight     uint32            `json:"weight,omitempty"`
	AppVersion string            `json:"app_version,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// GRPCServices are the full names (package.Service) of the gRPC services that the app answers, where they are known.
	GRPCServices []string  `json:"grpc_services,omitempty"`
	State        State     `json:"state"`
	StartedAt    time.Time `json:"started_at"`
}

// Key names the instance.
func (i *Instance) Key() Key { return Key{Service: i.Service, ID: i.ID} }

// EffectiveWeight is Weight with its default and its bound applied.
func (i *Instance) EffectiveWeight() uint32 {
	switch {
	case i.Weight == 0:
		return DefaultWeight
	case i.Weight > MaxWeight:
		return MaxWeight
	}
	return i.Weight
}

// Load is what a sidecar reports of its Machine with every beat. It travels apart from the record, so a changing load never
// changes the registry's version.
type Load struct {
	// InFlight is the number of calls that the sidecar is forwarding now.
	InFlight int `json:"in_flight"`
	// CallsPerSecond is the mean rate over the last interval.
	CallsPerSecond float64 `json:"calls_per_second"`
	// ErrorRate is the share (0 to 1) of those calls that did not end with OK.
	ErrorRate float64 `json:"error_rate"`
	// P50 and P99 are latency quantiles of those calls, in milliseconds.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	// CPU is the share (0 to 1) of the Machine's processor time that was in use.
	CPU float64 `json:"cpu"`
	// Memory is the share (0 to 1) of the Machine's memory that is in use.
	Memory float64 `json:"memory"`
	// Connections is the number of connections that the sidecar holds to peers.
	Connections int `json:"connections"`
}

// LoadReport is a Load as read from the registry.
type LoadReport struct {
	Key  Key
	Load Load
	// Age is the time since the load was reported, by the registry's clock.
	Age time.Duration
}

// Source says where a view comes from.
type Source string

// The sources of a view, best first.
const (
	// FromRegistry means that the view was read from the registry.
	FromRegistry Source = "registry"
	// FromNowhere means that no view has been had yet.
	FromNowhere Source = "none"
)

// Entry is one instance in a View.
type Entry struct {
	Instance Instance
	// Held marks an instance that vanished when the registry lost its data; it is kept for one lease so that it can register again.
	Held bool
}

// View is what is known of all instances at one moment. It is immutable: a change makes a new one.
type View struct {
	Version uint64
	Source  Source
	// Entries are sorted by service, then id.
	Entries []Entry
}

// Snapshot is a whole, consistent reading of the registry.
type Snapshot struct {
	Version   uint64
	Instances []Instance
	// Rejected counts the records that failed their checks and are not in Instances.
	Rejected int
}

// ChangeKind tells what a Change says.
type ChangeKind uint8

// The kinds of a Change.
const (
	// Reset says that the watch is in force, at first or again. Changes before it may have been missed: read a Snapshot.
	Reset ChangeKind = iota + 1
	// Put says that Instances were added or replaced.
	Put
	// Remove says that Keys are gone.
	Remove
)

// Change is one message of a watch.
type Change struct {
	Kind ChangeKind
	// Previous is the registry's version before this change and Version the one after it. A watcher whose own version is not
	// Previous, whether lower or higher, has missed something and must read a Snapshot. Both are 0 in a Reset.
	Previous, Version uint64
	Instances         []Instance
	Keys              []Key
}

// Owned is one instance that the caller of a beat keeps alive.
type Owned struct {
	Key         Key
	Incarnation string
	// ClaimedAt is as in [Instance]; 0 for one that never claimed.
	ClaimedAt uint64
	Load      Load
}

// Beat is one heartbeat of a Machine: all its instances in one command.
type Beat struct {
	// Lease is how long the instances live without another beat.
	Lease time.Duration
	// Owned may be empty: watchers without an instance of their own beat too, so that they learn the version and prune.
	Owned []Owned
	// Ask are keys whose loads the caller wants to know, [MaxAsk] at most; more are not answered.
	Ask []Key
}

// Standing is what the registry says of an owned instance.
type Standing uint8

// The standings of an owned instance.
const (
	// Current means that the lease was renewed.
	Current Standing = iota + 1
	// Unknown means that there is no such record, or that of an incarnation which claimed earlier and came back after a loss of
	// data: register again.
	Unknown
	// Superseded means that a newer incarnation holds the record: stop.
	Superseded
)

// BeatReply answers a Beat.
type BeatReply struct {
	Version uint64
	// Standings are in the order of Beat.Owned.
	Standings []Standing
	Loads     []LoadReport
	// Pruned is how many expired instances this beat removed.
	Pruned int
	// Renewed is true when this beat renewed all leases because the whole fleet had been silent or the clock had stepped.
	Renewed bool
}

// Store is a registry. All methods may be called concurrently; each respects its context and returns one of this package's
// errors, wrapped, where one fits.
type Store interface {
	// Register writes inst under a lease and gives the registry's version after that. With claim it replaces whatever record stands
	// there, and inst.ClaimedAt is ignored: a process claims once, at its first registration, and puts the version that it got into
	// ClaimedAt of its later registrations and beats. Without claim it fails with [ErrSuperseded] when another incarnation holds the
	// record, unless that one's ClaimedAt is there and lower: so after a loss of data it is the newer process that ends up with the
	// record, in whichever order the two come back.
	Register(ctx context.Context, inst Instance, lease time.Duration, claim bool) (version uint64, err error)
	// Beat renews, reports, prunes and asks, in one command.
	Beat(ctx context.Context, b Beat) (BeatReply, error)
	// Deregister removes the record if it still belongs to incarnation; else it fails with [ErrSuperseded]. A record that is not
	// there is no error.
	Deregister(ctx context.Context, key Key, incarnation string) error
	// Snapshot reads everything, from the primary.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Watch calls f for every change, from one goroutine, until ctx ends; it returns ctx's error. It reconnects by itself, with
	// backoff, and each time it is in force (again) it sends a Reset first. f must not block for long.
	Watch(ctx context.Context, f func(Change)) error
	// Loads reads the full load table: for status pages, never for routing. Calls that come together are answered by one reading.
	Loads(ctx context.Context) ([]LoadReport, error)
	// Close frees what the store holds. It does not deregister.
	Close() error
}

// The errors of a Store and of a record's checks.
var (
	ErrSuperseded  = errors.New("superseded by a newer incarnation")
	ErrUnavailable = errors.New("registry unavailable")
	// ErrAuth covers a wrong user, password or permission.
	ErrAuth = errors.New("registry refused the credentials")
	// ErrWrongType means that another program's key stands under one of our names.
	ErrWrongType = errors.New("registry key is of another type")

	ErrTooLarge  = errors.New("record too large")
	ErrMalformed = errors.New("record malformed")
	ErrAddress   = errors.New("record address not usable")
	ErrNetwork   = errors.New("record address outside allowed_networks")
	ErrSignature = errors.New("record signature missing or wrong")
)

// clip shortens what came from outside before it goes into an error or a log.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

package admin

import (
	"math"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Readiness is the body of /ready.
type Readiness struct {
	// Ready means that the port accepts and that a view of the cluster exists, even an empty or an old one, and that we are not
	// draining.
	Ready bool `json:"ready"`
	// Degraded means that calls are taken although something is wrong.
	Degraded bool `json:"degraded"`
	// Reasons say why it is not ready or degraded: each says what is wrong and, where that helps, what to do.
	Reasons []string `json:"reasons"`
}

// Status is the body of /cluster/status. Members may be added; readers ignore those that they do not know.
type Status struct {
	Self      Self      `json:"self"`
	Readiness Readiness `json:"readiness"`
	Registry  Registry  `json:"registry"`
	Routing   Routing   `json:"routing"`
	Counts    Counts    `json:"counts"`
	// Instances are all known ones, the nearest region first.
	Instances []Instance `json:"instances"`
	// LoadsError says why instances have no load, when the load table could not be read.
	LoadsError string `json:"loads_error,omitempty"`
}

// Self is the flyproxy that answers.
type Self struct {
	// Services are those that our own apps offer.
	Services   []string `json:"services,omitempty"`
	InstanceID string   `json:"instance_id"`
	Region     string   `json:"region,omitempty"`
	// Mode is sidecar or gateway, Engine the data plane.
	Mode      string    `json:"mode"`
	Engine    string    `json:"engine"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	UptimeS   float64   `json:"uptime_s"`
	// Listen are the addresses that calls are accepted on.
	Listen []string `json:"listen"`
	Apps   []App    `json:"apps,omitempty"`
}

// The states of an app's registration.
const (
	// Pending means that the record is to be written, for the first time or again.
	Pending = "pending"
	// Registered means that the registry holds the record.
	Registered = "registered"
	// Superseded means that another process registered under the same name.
	Superseded = "superseded"
	// Withdrawing and Withdrawn mean that the record is to be removed, or was.
	Withdrawing = "withdrawing"
	Withdrawn   = "withdrawn"
)

// ReasonDraining is the reason of an app that is not registered because we are about to end.
const ReasonDraining = "draining"

// App is one app of our own Machine.
type App struct {
	Name    string `json:"name"`
	Service string `json:"service"`
	// Address is where we reach the app.
	Address string `json:"address"`
	Health  Health `json:"health"`
	// Registration is one of the constants above, or empty before the first try. Reason says why the app is not registered, which
	// is no fault when the reason is [ReasonDraining].
	Registration string `json:"registration"`
	Reason       string `json:"reason,omitempty"`
	// Inbound is the address on which we accept for the app and splice to it; empty when peers reach the app itself.
	Inbound string `json:"inbound,omitempty"`
}

// Health is what the app's health check says.
type Health struct {
	// State is healthy, unhealthy or unknown.
	State string `json:"state"`
	// How is the way of checking: watch, check or tcp.
	How    string    `json:"how,omitempty"`
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

// The states of our view of the registry.
const (
	StateConnecting = "connecting"
	StateCurrent    = "current"
	StateStale      = "stale"
)

// Registry is how we stand with the registry.
type Registry struct {
	// Store is the kind of registry: redis, static, embedded.
	Store string `json:"store"`
	// State is one of the constants above.
	State string `json:"state"`
	// Source is where the view in force comes from.
	Source  registry.Source `json:"source"`
	Version uint64          `json:"version"`
	// ConfirmedAt is when the registry last confirmed the view; absent before the first one.
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"`
	// StalenessS is the time since then; before the first view, since we started.
	StalenessS float64 `json:"staleness_s"`
	// LastError is why the registry could not be read; empty once it could be again.
	LastError string `json:"last_error,omitempty"`
	// LatencyMS is how long the last beat took.
	LatencyMS float64 `json:"latency_ms"`
	// Rejected counts the records that failed their checks, by reason.
	Rejected map[string]uint64 `json:"rejected,omitempty"`
}

// Routing is how calls were routed since we started.
type Routing struct {
	Policy string `json:"policy"`
	// Picks counts the choices by reason, Unroutable the calls for which there was no peer.
	Picks      map[string]uint64 `json:"picks"`
	Unroutable uint64            `json:"unroutable"`
}

// Counts are over all services. Held and BackedOff are part of Serving and Draining, which together are Known.
type Counts struct {
	Known     int            `json:"known"`
	Serving   int            `json:"serving"`
	Draining  int            `json:"draining"`
	Held      int            `json:"held"`
	BackedOff int            `json:"backed_off"`
	Regions   map[string]int `json:"regions"`
}

// Instance is one registered gRPC server, as the registry has it and as we find it.
type Instance struct {
	Service      string         `json:"service"`
	ID           string         `json:"id"`
	Region       string         `json:"region,omitempty"`
	App          string         `json:"app,omitempty"`
	ProcessGroup string         `json:"process_group,omitempty"`
	Address      string         `json:"address"`
	State        registry.State `json:"state"`
	// Held marks an instance that vanished when the registry lost its data, and that may come back.
	Held bool `json:"held"`
	// Self marks an instance of our own Machine.
	Self bool `json:"self"`
	// AgeS is the time since the instance says it was started.
	AgeS       float64           `json:"age_s"`
	Weight     uint32            `json:"weight"`
	AppVersion string            `json:"app_version,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// Load is what the instance last reported, and LoadAgeS how long ago. Both are absent when it is not known.
	Load     *registry.Load `json:"load,omitempty"`
	LoadAgeS *float64       `json:"load_age_s,omitempty"`
	View     View           `json:"view"`
}

// View is what we ourselves see of an instance.
type View struct {
	// InFlight is the number of our own calls that it has now.
	InFlight int `json:"in_flight"`
	// BackedOff means that it refused connections, so many in a row as Refusals says.
	BackedOff bool `json:"backed_off"`
	Refusals  int  `json:"refusals"`
	// Connections is the number of connections that we hold to it.
	Connections int `json:"connections"`
	// RTTMS is the smoothed round-trip time of the path to it as the kernel measures it; absent when it is not known.
	RTTMS float64 `json:"rtt_ms,omitempty"`
}

// NewInstance gives the part of an Instance that an entry of the registry's view knows.
func NewInstance(e *registry.Entry, now time.Time) Instance {
	i := &e.Instance
	var age float64
	if !i.StartedAt.IsZero() {
		age = max(Seconds(now.Sub(i.StartedAt)), 0)
	}
	return Instance{
		Service: i.Service, ID: i.ID, Region: i.Region, App: i.App, ProcessGroup: i.ProcessGroup, Address: i.Address,
		State: i.State, Held: e.Held, AgeS: age, Weight: i.EffectiveWeight(), AppVersion: i.AppVersion, Labels: i.Labels,
	}
}

// SetLoad notes what the instance last reported.
func (i *Instance) SetLoad(r registry.LoadReport) {
	load, age := r.Load, Seconds(r.Age)
	i.Load, i.LoadAgeS = &load, &age
}

// Count counts instances.
func Count(instances []Instance) Counts {
	c := Counts{Known: len(instances), Regions: make(map[string]int)}
	for n := range instances {
		i := &instances[n]
		c.Regions[i.Region]++
		if i.State == registry.Draining {
			c.Draining++
		} else {
			c.Serving++
		}
		if i.Held {
			c.Held++
		}
		if i.View.BackedOff {
			c.BackedOff++
		}
	}
	return c
}

// Seconds gives d as the status has it: in seconds, to the millisecond.
func Seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e3) / 1e3 }

// Milliseconds gives d as the status has it: in milliseconds, to the microsecond.
func Milliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e3 }

package telemetry

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// InstanceKind is what instances are counted by.
type InstanceKind struct {
	Service string
	// State is serving, draining, held or backed_off; an instance counts in one state only.
	State string
}

// EngineState is the data plane at one moment.
type EngineState struct {
	// ClientConnections is the number of open connections from clients.
	ClientConnections int
	// PeerConnections counts the connections to peers by their state.
	PeerConnections map[string]int
	// PeerRTT is the longest smoothed round-trip time to a peer, by the peer's region.
	PeerRTT map[string]time.Duration
	// Held is what waits in the data plane; nil where it does not know.
	Held *HeldBytes
	// LimitHits counts by limit, and Retries by reason, what happened so far. The names are of small fixed sets.
	LimitHits, Retries map[string]uint64
}

// HeldBytes are the payloads that the data plane holds.
type HeldBytes struct {
	// Buffered wait for their reader; Replay are kept until their call is answered, to be sent again if need be.
	Buffered, Replay int64
}

// Sources are read at each scrape. A nil function gives no metric. Each may be called concurrently, must not block, and gives a
// value that nobody changes any more.
type Sources struct {
	// Engine is the data plane's state. It is read once for all of its metrics.
	Engine func() EngineState
	// Instances counts the known instances.
	Instances func() map[InstanceKind]int
	// Staleness is the time since the registry last confirmed our view; before the first view, since the process began, so that
	// one alert covers both.
	Staleness func() time.Duration
	// Rejected counts the records so far that failed their checks, by reason.
	Rejected func() map[string]uint64
	// Policy is the routing policy, and Picks counts its picks so far by reason.
	Policy string
	Picks  func() map[string]uint64
	// Unroutable counts the calls so far for which there was no peer.
	Unroutable func() uint64
	// Registrations gives the state of each app's registration by the app's name.
	Registrations func() map[string]string
	// RefusedClients counts, by reason, the client connections so far that were closed before a call could come on them.
	RefusedClients func() map[string]uint64
	// Inbound counts, by app, the connections from peers that are spliced to it now.
	Inbound func() map[string]int
}

// Read has s read at each scrape from now on. It may be called once.
func (m *Metrics) Read(s Sources) error {
	if err := m.registry.Register(newSourceCollector(s, m.cfg.MaxServices, m.cfg.MaxRegions)); err != nil {
		return fmt.Errorf("register metric sources: %w", err)
	}
	return nil
}

// sourceCollector is a prometheus.Collector.
type sourceCollector struct {
	from        Sources
	maxServices int
	engine      engineDescs

	instances, staleness, rejected, picks, unroutable, registrations, inbound, refusedClients *prometheus.Desc
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

func newSourceCollector(s Sources, maxServices, maxRegions int) *sourceCollector {
	return &sourceCollector{
		from:        s,
		maxServices: maxServices,
		engine:      newEngineDescs(maxRegions),
		instances:   desc("flyproxy_instances", "Known instances, by service and state.", "service", "state"),
		staleness: desc("flyproxy_registry_staleness_seconds",
			"Time since the registry last confirmed our view of it; before the first view, since the process began."),
		rejected: desc("flyproxy_registry_rejected_records_total", "Records that failed their checks and were ignored, by reason.",
			"reason"),
		picks:      desc("flyproxy_picks_total", "Choices of a peer, by policy and reason.", "policy", "reason"),
		unroutable: desc("flyproxy_unroutable_calls_total", "Calls for which there was no peer."),
		registrations: desc("flyproxy_registration_state", "Always 1; the label says how the registration of an app stands.",
			"app", "state"),
		inbound: desc("flyproxy_inbound_connections", "Connections from peers that are spliced to an app.", "app"),
		refusedClients: desc("flyproxy_refused_clients_total",
			"Client connections that were closed before a call could come on them, by reason.", "reason"),
	}
}

// Describe is part of prometheus.Collector.
func (c *sourceCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append(c.engine.all(),
		c.instances, c.staleness, c.rejected, c.picks, c.unroutable, c.registrations, c.inbound, c.refusedClients) {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (c *sourceCollector) Collect(ch chan<- prometheus.Metric) {
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	if f := c.from.Staleness; f != nil {
		send(ch, c.staleness, gauge, f().Seconds())
	}
	if f := c.from.Unroutable; f != nil {
		send(ch, c.unroutable, counter, float64(f()))
	}
	if f := c.from.Picks; f != nil {
		for reason, n := range f() {
			send(ch, c.picks, counter, float64(n), c.from.Policy, reason)
		}
	}
	if f := c.from.Registrations; f != nil {
		for app, state := range f() {
			send(ch, c.registrations, gauge, 1, app, state)
		}
	}
	if f := c.from.Instances; f != nil {
		for k, n := range c.bounded(f()) {
			send(ch, c.instances, gauge, float64(n), k.Service, k.State)
		}
	}
	if f := c.from.Rejected; f != nil {
		for reason, n := range f() {
			send(ch, c.rejected, counter, float64(n), reason)
		}
	}
	if f := c.from.RefusedClients; f != nil {
		for reason, n := range f() {
			send(ch, c.refusedClients, counter, float64(n), reason)
		}
	}
	if f := c.from.Inbound; f != nil {
		for app, n := range f() {
			send(ch, c.inbound, gauge, float64(n), app)
		}
	}
	if f := c.from.Engine; f != nil {
		c.engine.collect(ch, f())
	}
}

// bounded adds the instances of services beyond the limit, in the order of their names, to "other".
func (c *sourceCollector) bounded(in map[InstanceKind]int) map[InstanceKind]int {
	services := make(map[string]struct{})
	for k := range in {
		services[k.Service] = struct{}{}
	}
	if len(services) <= c.maxServices {
		return in
	}
	for _, name := range slices.Sorted(maps.Keys(services))[c.maxServices:] {
		delete(services, name)
	}
	out := make(map[InstanceKind]int)
	for k, n := range in {
		if _, own := services[k.Service]; !own {
			k.Service = otherLabel
		}
		out[k] += n
	}
	return out
}

func send(ch chan<- prometheus.Metric, d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
	for i := range labels {
		labels[i] = labelValue(labels[i])
	}
	ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
}

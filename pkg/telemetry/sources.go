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

// Sources are read at each scrape. A nil function gives no metric. Each may be called concurrently, must not block, and gives a
// value that nobody changes any more.
type Sources struct {
	// PeerConnections counts the connections to peers by their state.
	PeerConnections func() map[string]int
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
	// Inbound counts, by app, the connections from peers that are spliced to it now.
	Inbound func() map[string]int
}

// Read has s read at each scrape from now on. It may be called once.
func (m *Metrics) Read(s Sources) error {
	if err := m.registry.Register(newSourceCollector(s, m.cfg.MaxServices)); err != nil {
		return fmt.Errorf("register metric sources: %w", err)
	}
	return nil
}

// sourceCollector is a prometheus.Collector.
type sourceCollector struct {
	from        Sources
	maxServices int

	connections, instances, staleness, rejected, picks, unroutable, registrations, inbound *prometheus.Desc
}

func newSourceCollector(s Sources, maxServices int) *sourceCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &sourceCollector{
		from:        s,
		maxServices: maxServices,
		connections: desc("flyproxy_peer_connections", "Connections to peers, by state.", "state"),
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
	}
}

// Describe is part of prometheus.Collector.
func (c *sourceCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.connections, c.instances, c.staleness, c.rejected, c.picks, c.unroutable, c.registrations, c.inbound,
	} {
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
	sendAll(ch, c.connections, c.from.PeerConnections)
	sendAll(ch, c.inbound, c.from.Inbound)
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

func sendAll(ch chan<- prometheus.Metric, d *prometheus.Desc, f func() map[string]int) {
	if f == nil {
		return
	}
	for label, n := range f() {
		send(ch, d, prometheus.GaugeValue, float64(n), label)
	}
}

func send(ch chan<- prometheus.Metric, d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
	for i := range labels {
		labels[i] = labelValue(labels[i])
	}
	ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
}

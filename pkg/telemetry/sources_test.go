package telemetry_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

func sources() telemetry.Sources {
	return telemetry.Sources{
		PeerConnections: func() map[string]int { return map[string]int{"ready": 3, "connecting": 0} },
		Instances: func() map[telemetry.InstanceKind]int {
			return map[telemetry.InstanceKind]int{{Service: "api", State: "serving"}: 4, {Service: "api", State: "held"}: 1}
		},
		Staleness:     func() time.Duration { return 1500 * time.Millisecond },
		Rejected:      func() map[string]uint64 { return map[string]uint64{"malformed": 2} },
		Policy:        "weighted_load",
		Picks:         func() map[string]uint64 { return map[string]uint64{"same_region": 7} },
		Unroutable:    func() uint64 { return 5 },
		Registrations: func() map[string]string { return map[string]string{"api": "registered", "web": ""} },
		Inbound:       func() map[string]int { return map[string]int{"api": 2, "bad\xff": 1} },
	}
}

func TestSources(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{})
	if err := m.Read(sources()); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string]string{
		"flyproxy_peer_connections": `flyproxy_peer_connections{state="connecting"} 0` + "\n" +
			`flyproxy_peer_connections{state="ready"} 3` + "\n",
		"flyproxy_instances": `flyproxy_instances{service="api",state="held"} 1` + "\n" +
			`flyproxy_instances{service="api",state="serving"} 4` + "\n",
		"flyproxy_registry_staleness":        "flyproxy_registry_staleness_seconds 1.5\n",
		"flyproxy_registry_rejected_records": `flyproxy_registry_rejected_records_total{reason="malformed"} 2` + "\n",
		"flyproxy_picks":                     `flyproxy_picks_total{policy="weighted_load",reason="same_region"} 7` + "\n",
		"flyproxy_unroutable_calls":          "flyproxy_unroutable_calls_total 5\n",
		"flyproxy_registration_state": `flyproxy_registration_state{app="api",state="registered"} 1` + "\n" +
			`flyproxy_registration_state{app="web",state="unknown"} 1` + "\n",
		"flyproxy_inbound_connections": `flyproxy_inbound_connections{app="api"} 2` + "\n" +
			`flyproxy_inbound_connections{app="bad?"} 1` + "\n",
	} {
		wantScrape(t, m, prefix, want)
	}
}

func TestSourcesAreReadOnce(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{})
	if err := m.Read(sources()); err != nil {
		t.Fatal(err)
	}
	if err := m.Read(sources()); err == nil {
		t.Error("a second set of sources was accepted: its metrics would appear twice")
	}
}

func TestNoSources(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{})
	if err := m.Read(telemetry.Sources{}); err != nil {
		t.Fatal(err)
	}
	wantScrape(t, m, "flyproxy_instances", "")
}

func TestInstancesOfManyServicesAreBounded(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{MaxServices: 2})
	err := m.Read(telemetry.Sources{Instances: func() map[telemetry.InstanceKind]int {
		all := make(map[telemetry.InstanceKind]int)
		for i := range 9 {
			all[telemetry.InstanceKind{Service: fmt.Sprint("s", i), State: "serving"}] = 1
		}
		return all
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantScrape(t, m, "flyproxy_instances", ""+
		`flyproxy_instances{service="other",state="serving"} 7`+"\n"+
		`flyproxy_instances{service="s0",state="serving"} 1`+"\n"+
		`flyproxy_instances{service="s1",state="serving"} 1`+"\n")
}

package telemetry_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

func sources() telemetry.Sources {
	return telemetry.Sources{
		Engine: func() telemetry.EngineState {
			return telemetry.EngineState{
				ClientConnections: 2, PeerConnections: map[string]int{"ready": 3, "connecting": 0, "silent": 1},
				PeerRTT:   map[string]time.Duration{"ams": 1500 * time.Microsecond, "": time.Millisecond},
				Held:      &telemetry.HeldBytes{Buffered: 100, Replay: 20},
				LimitHits: map[string]uint64{"max_calls": 4, "max_connections": 0}, Retries: map[string]uint64{"refused": 6},
			}
		},
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
			`flyproxy_peer_connections{state="ready"} 3` + "\n" +
			`flyproxy_peer_connections{state="silent"} 1` + "\n",
		"flyproxy_client_connections": "flyproxy_client_connections 2\n",
		"flyproxy_buffered_bytes":     "flyproxy_buffered_bytes 100\n",
		"flyproxy_replay_bytes":       "flyproxy_replay_bytes 20\n",
		"flyproxy_peer_rtt_seconds": `flyproxy_peer_rtt_seconds{region="ams"} 0.0015` + "\n" +
			`flyproxy_peer_rtt_seconds{region="unknown"} 0.001` + "\n",
		"flyproxy_limit_hits": `flyproxy_limit_hits_total{limit="max_calls"} 4` + "\n" +
			`flyproxy_limit_hits_total{limit="max_connections"} 0` + "\n",
		"flyproxy_retries": `flyproxy_retries_total{reason="refused"} 6` + "\n",
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

// An engine that does not know what it holds must not say that it holds nothing.
func TestWhatAnEngineDoesNotKnow(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{})
	if err := m.Read(telemetry.Sources{Engine: func() telemetry.EngineState { return telemetry.EngineState{} }}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"flyproxy_buffered_bytes", "flyproxy_replay_bytes", "flyproxy_limit_hits_total", "flyproxy_retries_total", "flyproxy_peer_rtt_seconds",
	} {
		wantScrape(t, m, name, "")
	}
	wantScrape(t, m, "flyproxy_client_connections", "flyproxy_client_connections 0\n")
}

// A region's longest time counts, and further regions count together.
func TestRoundTripTimesOfManyRegionsAreBounded(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsConfig{MaxRegions: 2})
	err := m.Read(telemetry.Sources{Engine: func() telemetry.EngineState {
		all := make(map[string]time.Duration)
		for i := range 9 {
			all[fmt.Sprint("r", i)] = time.Duration(9-i) * time.Second
		}
		return telemetry.EngineState{PeerRTT: all}
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantScrape(t, m, "flyproxy_peer_rtt_seconds", ""+
		`flyproxy_peer_rtt_seconds{region="other"} 7`+"\n"+
		`flyproxy_peer_rtt_seconds{region="r0"} 9`+"\n"+
		`flyproxy_peer_rtt_seconds{region="r1"} 8`+"\n")
}

package admin_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func loaded(i admin.Instance, l registry.Load) admin.Instance {
	i.SetLoad(registry.LoadReport{Load: l, Age: 3 * time.Second})
	return i
}

// cluster is a status in which everything is set that can be set.
func cluster() admin.Status {
	s := admin.Status{
		Self: admin.Self{
			Services: []string{"api"}, InstanceID: "4d891234567890", Region: "ams", Mode: "sidecar", Engine: "grpc", Version: "0.1.0",
			StartedAt: noon.Add(-3 * time.Hour), UptimeS: 10_800, Listen: []string{"127.0.0.1:50052", "[::1]:50052"},
			Apps: []admin.App{{
				Name: "api", Service: "api", Address: "127.0.0.1:50051",
				Health:       admin.Health{State: "healthy", How: "watch", Detail: "SERVING", Since: noon.Add(-10 * time.Minute)},
				Registration: admin.Registered, Reason: "none", Inbound: "[fdaa:0:18:a7b:7d::2]:50051",
			}},
		},
		Registry: admin.Registry{
			Store: "redis", State: admin.StateCurrent, Source: registry.FromRegistry, Version: 1777896000000000,
			ConfirmedAt: noon.Add(-2 * time.Second), StalenessS: 2, LatencyMS: 1.23, LastError: "it was away",
			Rejected: map[string]uint64{"malformed": 2, "network": 1},
		},
		Routing: admin.Routing{
			Policy: "weighted_load", Picks: map[string]uint64{"same_region": 1100, "nearest": 104, "forced": 0}, Unroutable: 3,
		},
		LoadsError: "the load table could not be read: i/o timeout",
		Instances: []admin.Instance{
			loaded(admin.Instance{
				Service: "api", ID: "32873d9ae91e08", Region: "fra", Address: "[fdaa:0:18:a7b:aa2:1111:2222:2]:50051", State: registry.Serving,
				AgeS: 5400, Weight: 100,
			}, registry.Load{CPU: 0.07, CallsPerSecond: 3.2, P50: 1, P99: 0.42}),
			loaded(admin.Instance{
				Service: "api", ID: "4d891234567890", Region: "ams", App: "shop", ProcessGroup: "app", Address: "[fdaa:0:18:a7b:7d::2]:50051",
				State: registry.Serving, Self: true, AgeS: 10_790, Weight: 100, AppVersion: "v7", Labels: map[string]string{"tier": "gold"},
			}, registry.Load{CPU: 0.34, CallsPerSecond: 120.4, P50: 3, P99: 12.4}),
			loaded(admin.Instance{
				Service: "api", ID: "5683606c41098e", Region: "ams", Address: "[fdaa:0:18:a7b:7d::9]:50051", State: registry.Serving,
				AgeS: 86_400 * 12, Weight: 100, View: admin.View{InFlight: 17, Connections: 1},
			}, registry.Load{CPU: 1, CallsPerSecond: 12_345, P50: 3, P99: 1234}),
			{
				Service: "api", ID: "91850de0a04d83", Region: "iad", Address: "[fdaa:0:18:a7b:1::2]:50051", State: registry.Serving,
				AgeS: 59, Weight: 100, View: admin.View{BackedOff: true, Refusals: 3},
			},
			{Service: "battle-rpc", ID: "e82d9b6c7e1d38/worker", Region: "iad", Address: "[fdaa:0:18:a7b:1::3]:50053", State: registry.Serving, Held: true, AgeS: 700},
			{Service: "battle-rpc", ID: "148e21", Address: "worker-9.example.internal:50053", State: registry.Draining, AgeS: 300_000,
				View: admin.View{BackedOff: false, InFlight: 2}},
		},
	}
	s.Counts = admin.Count(s.Instances)
	return s
}

// members lists the names under a path of a JSON value, sorted.
func members(t *testing.T, v any, path string) string {
	t.Helper()
	for step := range strings.SplitSeq(path, ".") {
		if step == "" {
			continue
		}
		if list, ok := v.([]any); ok {
			n, err := strconv.Atoi(step)
			if err != nil || n >= len(list) {
				t.Errorf("%s: no element %s", path, step)
				return ""
			}
			v = list[n]
			continue
		}
		v = v.(map[string]any)[step]
	}
	object, ok := v.(map[string]any)
	if !ok {
		t.Errorf("%s is no object: %v", path, v)
		return ""
	}
	var names []string
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

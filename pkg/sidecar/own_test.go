package sidecar_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
)

// What the sidecar answers itself is not forwarded, and counts with neither engine.
func TestOwnServicesAreNoCalls(t *testing.T) {
	for _, engine := range []string{"relay", "grpc"} {
		t.Run(engine, func(t *testing.T) {
			_, port := serveApp(t, "app")
			s, log, _ := run(t, load(t, append(listed(port), "FLYPROXY_ENGINE="+engine, "FLYPROXY_ACCESS_LOG_SLOW=1ns")...))
			await(t, "the app is known", func() bool { return s.Known("battle") == 1 })
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			client := flyproxyv1.NewDiscoveryClient(connect(t, s))
			if _, err := client.ListInstances(ctx, &flyproxyv1.ListInstancesRequest{}); err != nil {
				t.Fatal(err)
			}
			if _, err := client.WatchInstances(ctx, &flyproxyv1.WatchInstancesRequest{}); err != nil {
				t.Fatal(err)
			}
			text := metrics(t, s)
			if strings.Contains(text, "flyproxy.v1.Discovery") || !strings.Contains(text, "\nflyproxy_calls_in_flight 0\n") {
				t.Error("the sidecar's own services count as calls")
			}
			if strings.Contains(log.String(), "slow call") {
				t.Error("the sidecar's own services have lines in the access log")
			}
		})
	}
}

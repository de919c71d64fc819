package sidecar

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/flyproxy/flyproxy/pkg/engine"
	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

// What every call costs, whichever engine forwards it.
func TestCallsAreObservedWithoutAllocations(t *testing.T) {
	var o engine.Observer = calls{
		telemetry.NewMetrics(telemetry.MetricsConfig{}),
		telemetry.NewAccessLog(telemetry.AccessLogConfig{Slow: time.Second, Failed: true, PerSecond: 10}),
	}
	call := func() {
		o.CallStarted()
		o.CallEnded(engine.CallInfo{
			Service: "shop", Method: "/shop.v1.Cart/Add", Code: codes.OK, PeerID: "m1", PeerRegion: "ams", Latency: 3 * time.Millisecond,
			Attempts: 1,
		})
	}
	call() // the metrics see the names for the first time
	if n := testing.AllocsPerRun(1000, call); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

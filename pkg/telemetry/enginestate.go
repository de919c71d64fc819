package telemetry

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// engineDescs are the metrics of an [EngineState].
type engineDescs struct {
	maxRegions int

	clients, peers, rtt, buffered, replay, limitHits, retries *prometheus.Desc
}

func newEngineDescs(maxRegions int) engineDescs {
	return engineDescs{
		maxRegions: maxRegions,
		clients:    desc("flyproxy_client_connections", "Connections from clients that are open now."),
		peers:      desc("flyproxy_peer_connections", "Connections to peers, by state.", "state"),
		rtt: desc("flyproxy_peer_rtt_seconds",
			"Longest smoothed round-trip time (TCP_INFO) to a connected peer, by the peer's region.", "region"),
		buffered:  desc("flyproxy_buffered_bytes", "Bytes that are held because whom they are for has not taken them yet: payload, waiting headers, unfinished header blocks."),
		replay:    desc("flyproxy_replay_bytes", "Bytes of requests, and of their headers where these are large, that are kept to be sent again if need be."),
		limitHits: desc("flyproxy_limit_hits_total", "How often a limit of the configuration was hit, by its key below limits.", "limit"),
		retries:   desc("flyproxy_retries_total", "Attempts beyond the first of a call, by what became of the one before.", "reason"),
	}
}

func (d *engineDescs) all() []*prometheus.Desc {
	return []*prometheus.Desc{d.clients, d.peers, d.rtt, d.buffered, d.replay, d.limitHits, d.retries}
}

func (d *engineDescs) collect(ch chan<- prometheus.Metric, st EngineState) {
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	send(ch, d.clients, gauge, float64(st.ClientConnections))
	if st.Held != nil {
		send(ch, d.buffered, gauge, float64(st.Held.Buffered))
		send(ch, d.replay, gauge, float64(st.Held.Replay))
	}
	for state, n := range st.PeerConnections {
		send(ch, d.peers, gauge, float64(n), state)
	}
	for region, rtt := range d.bounded(st.PeerRTT) {
		send(ch, d.rtt, gauge, rtt.Seconds(), region)
	}
	for limit, n := range st.LimitHits {
		send(ch, d.limitHits, counter, float64(n), limit)
	}
	for reason, n := range st.Retries {
		send(ch, d.retries, counter, float64(n), reason)
	}
}

// bounded puts the regions beyond the limit, in the order of their names, together as "other". One value stands for a region's peers,
// since there are too many of those for a label of their own, and it is the longest, since one bad path would not show in a mean.
// Which peer it is, /cluster/status tells.
func (d *engineDescs) bounded(rtt map[string]time.Duration) map[string]time.Duration {
	out := make(map[string]time.Duration, len(rtt))
	for i, region := range slices.Sorted(maps.Keys(rtt)) {
		label := labelValue(region)
		if i >= d.maxRegions {
			label = otherLabel
		}
		out[label] = max(out[label], rtt[region])
	}
	return out
}

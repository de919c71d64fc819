// Package telemetry is what flyproxy says of itself: logs, Prometheus metrics, and the short summary of its recent calls that a
// sidecar publishes with each heartbeat.
//
// It is a leaf: it imports nothing else of flyproxy, so every room may use it. What lives elsewhere (the number of instances,
// the picks of the router) is read at each scrape through the functions of [Sources].
//
// Names that come from callers (services, methods, regions) become labels only within fixed bounds; see [MetricsConfig].
package telemetry

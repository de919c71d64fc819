// Package flyconfig checks Fly's configuration files offline: fly.toml, and the JSON file of containers that it may name.
//
// The types mirror what Fly's command line tool accepts, field by field, and decoding is strict: a key that Fly would silently
// ignore is a fault here. The rules are those that the tool or the platform has; each says where it is from:
//
//   - superfly/flyctl, internal/appconfig: config.go and service.go (keys), validation.go, machines.go, toplevelcheck.go,
//     processgroups.go (which group a section applies to), patches.go (what of old files is still taken)
//   - superfly/fly-go, machine_types.go (containers, restart policies, Machine sizes), duration.go
//   - fly.io/docs/reference/configuration, and machines/guides-examples/multi-container-machines
//
// On top of them stand a few rules of flyproxy's own, in agree.go: they hold for deployments that run flyproxy.
package flyconfig

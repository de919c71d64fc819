package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/static"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
)

// registry reads who is registered, as a sidecar that starts does.
func (e *examination) registry(ctx context.Context, f *findings) {
	store, rejected, err := e.open()
	switch {
	case err != nil && e.noRedis:
		f.skip("", "Redis cannot be spoken to")
		return
	case err != nil:
		f.skip("", "it cannot be opened: "+err.Error())
		return
	case store == nil:
		f.skip("", "the configuration names none")
		return
	case e.noRedis:
		_ = store.Close()
		f.skip("", "Redis does not answer")
		return
	}
	defer func() { _ = store.Close() }()
	snap, err := store.Snapshot(ctx)
	switch {
	case errors.Is(err, registry.ErrWrongType):
		f.add(registryWrongType, "", strings.TrimPrefix(err.Error(), "snapshot: "),
			"another program uses flyproxy's keys: delete that key, or set registry.namespace to another name on every flyproxy")
		return
	case err != nil && late(ctx):
		f.skip("", "time ran out")
		return
	case err != nil:
		f.add(registryUnreadable, "", strings.TrimPrefix(err.Error(), "snapshot: "), "see redis above")
		return
	}
	e.view = &snap
	f.add(registryRead, "namespace "+e.cfg.Registry.Namespace, e.population(), "")
	if snap.Rejected > 0 {
		var kinds []string
		for _, name := range slices.Sorted(maps.Keys(rejected())) {
			kinds = append(kinds, fmt.Sprintf("%s %d", name, rejected()[name]))
		}
		f.add(registryRejected, "", fmt.Sprintf("%d records fail their checks and are ignored (%s)", snap.Rejected, strings.Join(kinds, ", ")), rejectedFix(rejected()))
	}
}

// open opens the store for reading. It is nil where none is configured. An embedded Redis is not started.
func (e *examination) open() (registry.Store, func() map[string]uint64, error) {
	switch {
	case e.cfg.Registry.Store == config.StoreStatic:
		s, err := static.New(nil, sidecar.StaticInstances(e.cfg))
		return s, func() map[string]uint64 { return nil }, err
	case !e.registryIsRedis() || len(sidecar.RedisConfig(e.cfg).Addresses) == 0:
		return nil, nil, nil
	}
	s, err := redis.New(sidecar.RedisConfig(e.cfg))
	if err != nil {
		return nil, nil, err
	}
	return s, s.Rejected, nil
}

// population counts who is registered, by service and region.
func (e *examination) population() string {
	services, regions := make(map[string]int), make(map[string]int)
	for i := range e.view.Instances {
		in := &e.view.Instances[i]
		services[in.Service]++
		regions[orUnknown(in.Region)]++
	}
	if len(services) == 0 {
		return "no instances are registered"
	}
	return fmt.Sprintf("%d registered: %s; regions %s", len(e.view.Instances), counts(services), counts(regions))
}

func counts(m map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(parts, ", ")
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func rejectedFix(kinds map[string]uint64) string {
	switch {
	case kinds["signature"] > 0:
		return "give every flyproxy the same registry.signing_key, or none"
	case kinds["network"] > 0:
		return "add the network of those addresses to registry.allowed_networks, or correct registration.address there"
	}
	return "the log of a running flyproxy names them; what writes them is no flyproxy, or a broken one"
}

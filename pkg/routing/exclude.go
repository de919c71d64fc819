package routing

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Exclusion is an instance that gets no calls from us.
type Exclusion struct {
	Key     registry.Key
	Address string
	Why     string
}

// exclude asks which instances of a view get no calls, and logs those that are new. No lock is held.
func (r *Router) exclude(v *registry.View) map[registry.Key]Exclusion {
	if r.cfg.Excluded == nil {
		return nil
	}
	var next map[registry.Key]Exclusion
	for i := range v.Entries {
		in := &v.Entries[i].Instance
		why := r.cfg.Excluded(in)
		if why == "" {
			continue
		}
		if next == nil {
			next = make(map[registry.Key]Exclusion)
		}
		next[in.Key()] = Exclusion{Key: in.Key(), Address: in.Address, Why: why}
	}
	r.mu.Lock()
	old := r.excluded
	r.excluded = next
	r.mu.Unlock()
	for key, x := range next {
		if old[key] != x {
			r.cfg.Logger.Warn("an instance gets no calls from here, or they would come round again: correct who registers or lists it",
				"service", key.Service, "instance", key.ID, "address", x.Address, "why", x.Why)
		}
	}
	return next
}

// Excluded gives the instances of the view in force that get no calls, by service and id.
func (r *Router) Excluded() []Exclusion {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.excluded))
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b Exclusion) int {
		return cmp.Or(strings.Compare(a.Key.Service, b.Key.Service), strings.Compare(a.Key.ID, b.Key.ID))
	})
	return all
}

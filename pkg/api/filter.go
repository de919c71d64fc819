package api

import (
	"sort"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// filter says which entries of a view are wanted; empty fields want all.
type filter struct {
	service, region string
}

// entries are the wanted entries of v, sorted as it is. They point into v, which never changes.
func (f filter) entries(v *registry.View) []*registry.Entry {
	all := v.Entries
	if f.service != "" {
		all = all[sort.Search(len(all), func(i int) bool { return all[i].Instance.Service >= f.service }):]
		all = all[:sort.Search(len(all), func(i int) bool { return all[i].Instance.Service > f.service })]
	}
	wanted := make([]*registry.Entry, 0, len(all))
	for i := range all {
		if f.region == "" || all[i].Instance.Region == f.region {
			wanted = append(wanted, &all[i])
		}
	}
	return wanted
}

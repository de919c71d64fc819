package api

import (
	"cmp"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// maxEventBytes bounds one event, well below the 4 MiB that gRPC clients take by default. One instance is always sent whole.
const maxEventBytes = 1 << 20

// watch is one caller's watch. All that it keeps is what it told last, and that is shared with the view; so a reader that is
// slow costs nothing and is told the difference to the latest view when it reads again.
type watch struct {
	server *Server
	want   filter
	send   func(*flyproxyv1.WatchInstancesResponse) error

	// told is nil before the first event.
	told   *registry.View
	listed []*registry.Entry
}

// tell sends what v has that was not told yet: at first everything, then changes, or nothing at all.
func (w *watch) tell(v *registry.View) error {
	if v == w.told {
		return nil
	}
	entries := w.want.entries(v)
	updated, removed := diff(w.listed, entries)
	first := w.told == nil
	if !first && len(updated) == 0 && len(removed) == 0 && v.Source == w.told.Source {
		// Another service's change. That the version moved is not worth a message to each watcher of each service.
		w.told, w.listed = v, entries
		return nil
	}
	if err := w.events(v, updated, removed, first); err != nil {
		return err
	}
	w.told, w.listed = v, entries
	return nil
}

// events sends the parts of one difference, in as many messages as it takes.
func (w *watch) events(v *registry.View, updated []*registry.Entry, removed []registry.Key, first bool) error {
	for {
		part, keys := new(flyproxyv1.InstanceChanges), 0
		for bytes := 0; bytes < maxEventBytes && keys < len(removed); keys++ {
			k := &flyproxyv1.InstanceKey{Service: removed[keys].Service, Id: removed[keys].ID}
			part.Removed = append(part.Removed, k)
			bytes += proto.Size(k)
		}
		removed = removed[keys:]
		n := 0
		for bytes := proto.Size(part); bytes < maxEventBytes && n < len(updated); n++ {
			i := w.server.instance(updated[n])
			if bytes += proto.Size(i); bytes > maxEventBytes && n > 0 {
				break
			}
			part.Updated = append(part.Updated, i)
		}
		updated = updated[n:]
		event := &flyproxyv1.WatchInstancesResponse{
			Version: v.Version,
			Source:  source(v.Source),
			More:    len(updated) > 0 || len(removed) > 0,
		}
		if first {
			event.Event = &flyproxyv1.WatchInstancesResponse_Snapshot{
				Snapshot: &flyproxyv1.InstanceSnapshot{Instances: part.GetUpdated()},
			}
			first = false
		} else {
			event.Event = &flyproxyv1.WatchInstancesResponse_Changes{Changes: part}
		}
		if err := w.send(event); err != nil {
			return err
		}
		if !event.GetMore() {
			return nil
		}
	}
}

// diff compares two sorted lists: which entries are new or different, and which keys are gone.
func diff(before, after []*registry.Entry) (updated []*registry.Entry, removed []registry.Key) {
	for len(before) > 0 || len(after) > 0 {
		switch c := order(before, after); {
		case c < 0:
			removed = append(removed, before[0].Instance.Key())
			before = before[1:]
		case c > 0:
			updated = append(updated, after[0])
			after = after[1:]
		default:
			if !same(before[0], after[0]) {
				updated = append(updated, after[0])
			}
			before, after = before[1:], after[1:]
		}
	}
	return updated, removed
}

// order compares the first keys of two lists; an empty list comes last.
func order(a, b []*registry.Entry) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	x, y := &a[0].Instance, &b[0].Instance
	return cmp.Or(cmp.Compare(x.Service, y.Service), cmp.Compare(x.ID, y.ID))
}

// same tells whether two entries say the same. It is called for every instance at every change, so it is written out: strings
// that share their bytes, as those of consecutive views do, are compared by their address.
func same(a, b *registry.Entry) bool {
	if a == b {
		return true
	}
	x, y := &a.Instance, &b.Instance
	return a.Held == b.Held && x.Service == y.Service && x.ID == y.ID && x.Incarnation == y.Incarnation && x.State == y.State &&
		x.ClaimedAt == y.ClaimedAt && x.Schema == y.Schema && x.App == y.App && x.Region == y.Region && x.ProcessGroup == y.ProcessGroup &&
		x.Address == y.Address && x.GRPCPort == y.GRPCPort && x.IsFly == y.IsFly && x.Weight == y.Weight &&
		x.AppVersion == y.AppVersion && x.StartedAt.Equal(y.StartedAt) && maps.Equal(x.Labels, y.Labels) &&
		slices.Equal(x.GRPCServices, y.GRPCServices)
}

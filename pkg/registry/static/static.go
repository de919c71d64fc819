// Package static is the registry as a fixed list: a [registry.Store] that knows the instances of a configuration and no others.
// Nothing is stored and nothing changes, so whoever registers finds itself accepted and unseen.
package static

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Incarnation is that of every instance in the list.
const Incarnation = "static"

// version of the list; it never changes.
const version = 1

// Store is a [registry.Store] over a list. It is immutable.
type Store struct {
	instances []registry.Instance // sorted by service, then id
}

var _ registry.Store = (*Store)(nil)

// New makes a Store of instances, each of which codec checks as it would a record; nil means a codec with its defaults. It fills
// Incarnation, Schema and State where they are empty. An error names the entry, counted from 0.
func New(codec *registry.Codec, instances []registry.Instance) (*Store, error) {
	if codec == nil {
		codec = &registry.Codec{}
	}
	s := &Store{instances: slices.Clone(instances)}
	seen := map[registry.Key]int{}
	for i := range s.instances {
		inst := &s.instances[i]
		inst.Schema = registry.SchemaVersion
		if inst.Incarnation == "" {
			inst.Incarnation = Incarnation
		}
		if inst.State == "" {
			inst.State = registry.Serving
		}
		if _, err := codec.Encode(*inst); err != nil {
			return nil, fmt.Errorf("static instance %d: %w", i, err)
		}
		if first, twice := seen[inst.Key()]; twice {
			return nil, fmt.Errorf("static instance %d: %s is instance %d already", i, inst.Key(), first)
		}
		seen[inst.Key()] = i
	}
	slices.SortFunc(s.instances, func(a, b registry.Instance) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID))
	})
	return s, nil
}

// Register implements [registry.Store]. It accepts everything and keeps nothing.
func (s *Store) Register(ctx context.Context, _ registry.Instance, _ time.Duration, _ bool) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return version, nil
}

// Beat implements [registry.Store]. Whoever beats is current; loads are not known.
func (s *Store) Beat(ctx context.Context, b registry.Beat) (registry.BeatReply, error) {
	if err := ctx.Err(); err != nil {
		return registry.BeatReply{}, err
	}
	out := registry.BeatReply{Version: version}
	for range b.Owned {
		out.Standings = append(out.Standings, registry.Current)
	}
	return out, nil
}

// Deregister implements [registry.Store]. There is nothing to remove.
func (s *Store) Deregister(ctx context.Context, _ registry.Key, _ string) error { return ctx.Err() }

// Snapshot implements [registry.Store].
func (s *Store) Snapshot(ctx context.Context) (registry.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return registry.Snapshot{}, err
	}
	return registry.Snapshot{Version: version, Instances: slices.Clone(s.instances)}, nil
}

// Watch implements [registry.Store]: one Reset, and then nothing until ctx ends.
func (s *Store) Watch(ctx context.Context, f func(registry.Change)) error {
	if ctx.Err() == nil {
		f(registry.Change{Kind: registry.Reset})
	}
	<-ctx.Done()
	return ctx.Err()
}

// Loads implements [registry.Store]. There are none.
func (s *Store) Loads(ctx context.Context) ([]registry.LoadReport, error) { return nil, ctx.Err() }

// Close implements [registry.Store].
func (s *Store) Close() error { return nil }

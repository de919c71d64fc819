package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Register implements [registry.Store].
func (s *Store) Register(ctx context.Context, inst registry.Instance, lease time.Duration, claim bool) (uint64, error) {
	claimed := "0"
	if claim {
		claimed, inst.ClaimedAt = "1", 0
	}
	record, err := s.codec.Encode(inst)
	if err != nil {
		return 0, fmt.Errorf("register: %w", err)
	}
	if lease < time.Millisecond {
		return 0, fmt.Errorf("register: lease of %v is too short", lease)
	}
	field := inst.Key().String()
	reply, err := s.run(ctx, "register", registerScript,
		field, inst.Incarnation, record, lease.Milliseconds(), claimed, inst.ClaimedAt)
	if err != nil {
		return 0, err
	}
	return s.outcome("register", field, reply)
}

// Deregister implements [registry.Store].
func (s *Store) Deregister(ctx context.Context, key registry.Key, incarnation string) error {
	reply, err := s.run(ctx, "deregister", deregisterScript, key.String(), incarnation)
	if err != nil {
		return err
	}
	_, err = s.outcome("deregister", key.String(), reply)
	return err
}

// outcome reads the reply of the two scripts that change one record, and gives the version that it tells.
func (s *Store) outcome(op, field string, reply []any) (uint64, error) {
	a := answer{rest: reply}
	status, version, holder := a.text(), a.version(), a.text()
	if a.err != nil {
		return 0, fmt.Errorf("%s: %w", op, a.err)
	}
	s.known.learned(version)
	if status == "superseded" {
		return 0, fmt.Errorf("%s: %s: %w: %s", op, field, registry.ErrSuperseded, holder)
	}
	return version, nil
}

// Beat implements [registry.Store].
func (s *Store) Beat(ctx context.Context, b registry.Beat) (registry.BeatReply, error) {
	if b.Lease < time.Millisecond {
		return registry.BeatReply{}, fmt.Errorf("beat: lease of %v is too short", b.Lease)
	}
	ask := b.Ask[:min(len(b.Ask), registry.MaxAsk)]
	args := make([]any, 0, 2+4*len(b.Owned)+len(ask))
	args = append(args, b.Lease.Milliseconds(), len(b.Owned))
	for _, o := range b.Owned {
		load, err := json.Marshal(o.Load)
		if err != nil {
			return registry.BeatReply{}, fmt.Errorf("beat: load of %s: %w", o.Key, err)
		}
		args = append(args, o.Key.String(), o.Incarnation, o.ClaimedAt, load)
	}
	for _, k := range ask {
		args = append(args, k.String())
	}
	reply, err := s.run(ctx, "beat", beatScript, args...)
	if err != nil {
		return registry.BeatReply{}, err
	}

	a := answer{rest: reply}
	out := registry.BeatReply{Version: a.version()}
	now := a.number()
	out.Renewed = a.number() == 1
	out.Pruned = int(a.number())
	standings, loads := a.texts(), a.texts()
	if a.err == nil && (len(standings) != len(b.Owned) || len(loads) != len(ask)) {
		a.fail("wrong number of answers")
	}
	if a.err != nil {
		return registry.BeatReply{}, fmt.Errorf("beat: %w", a.err)
	}
	s.known.learned(out.Version)
	for _, standing := range standings {
		switch standing {
		case "current":
			out.Standings = append(out.Standings, registry.Current)
		case "superseded":
			out.Standings = append(out.Standings, registry.Superseded)
		default:
			out.Standings = append(out.Standings, registry.Unknown)
		}
	}
	for i, stored := range loads {
		if report, ok := parseLoad(ask[i], stored, now); ok {
			out.Loads = append(out.Loads, report)
		}
	}
	return out, nil
}

// Snapshot implements [registry.Store]. A record that fails its checks is counted and left out.
func (s *Store) Snapshot(ctx context.Context) (registry.Snapshot, error) {
	limit := s.codec.MaxRecordBytes
	if limit <= 0 {
		limit = registry.DefaultMaxRecordBytes
	}
	reply, err := s.run(ctx, "snapshot", snapshotScript, limit)
	if err != nil {
		return registry.Snapshot{}, err
	}
	a := answer{rest: reply}
	out := registry.Snapshot{Version: a.version()}
	pairs := a.texts()
	out.Rejected = int(a.number())
	tooLarge := a.texts()
	if a.err == nil && len(pairs)%2 != 0 {
		a.fail("a field without a record")
	}
	if a.err != nil {
		return registry.Snapshot{}, fmt.Errorf("snapshot: %w", a.err)
	}
	s.known.learned(out.Version)
	s.rejected.add(registry.ErrTooLarge, out.Rejected)
	for _, field := range tooLarge {
		s.rejected.report(s.log, field, registry.ErrTooLarge)
	}
	out.Instances = make([]registry.Instance, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		inst, err := s.decode(pairs[i], []byte(pairs[i+1]))
		if err != nil {
			out.Rejected++
			continue
		}
		out.Instances = append(out.Instances, inst)
	}
	return out, nil
}

// decode checks a record and takes note of one that fails.
func (s *Store) decode(field string, record []byte) (registry.Instance, error) {
	inst, err := s.codec.Decode(field, record)
	if err != nil {
		s.rejected.add(err, 1)
		s.rejected.report(s.log, field, err)
	}
	return inst, err
}

// parseLoad reads a stored load: when it was reported, in ms of Redis' clock, and what. One that cannot be read is as good as none.
func parseLoad(key registry.Key, stored string, now int64) (registry.LoadReport, bool) {
	at, load, ok := strings.Cut(stored, "|")
	if !ok {
		return registry.LoadReport{}, false
	}
	reported, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return registry.LoadReport{}, false
	}
	out := registry.LoadReport{Key: key, Age: max(time.Duration(now-reported)*time.Millisecond, 0)}
	if json.Unmarshal([]byte(load), &out.Load) != nil {
		return registry.LoadReport{}, false
	}
	return out, true
}

// loadTable is the last reading of the full load table. turn has one place: who holds it may read and write the fields, and
// others wait for it no longer than their contexts allow.
type loadTable struct {
	turn    chan struct{}
	at      time.Time
	reports []registry.LoadReport
	err     error
}

// loadsAge is how long a reading of the load table serves everybody who asks.
const loadsAge = time.Second

// Loads implements [registry.Store]. A failure serves for as long as a reading does: those who waited for it do not each wait for
// one of their own.
func (s *Store) Loads(ctx context.Context) ([]registry.LoadReport, error) {
	t := &s.loads
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("loads: %w", ctx.Err())
	}
	defer func() { <-t.turn }()
	if !t.at.IsZero() && time.Since(t.at) < loadsAge {
		return append([]registry.LoadReport(nil), t.reports...), t.err
	}
	reports, err := s.readLoads(ctx)
	if errors.Is(err, context.Canceled) || ctx.Err() != nil {
		return nil, err // the caller's own end is no news for others
	}
	t.at, t.reports, t.err = time.Now(), reports, err
	return append([]registry.LoadReport(nil), reports...), err
}

func (s *Store) readLoads(ctx context.Context) ([]registry.LoadReport, error) {
	reply, err := s.run(ctx, "loads", loadsScript)
	if err != nil {
		return nil, err
	}
	a := answer{rest: reply}
	now, pairs := a.number(), a.texts()
	if a.err != nil {
		return nil, fmt.Errorf("loads: %w", a.err)
	}
	var out []registry.LoadReport
	for i := 0; i+1 < len(pairs); i += 2 {
		key, err := registry.ParseKey(pairs[i])
		if err != nil {
			continue
		}
		if report, ok := parseLoad(key, pairs[i+1], now); ok {
			out = append(out, report)
		}
	}
	return out, nil
}

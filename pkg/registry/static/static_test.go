package static_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/static"
)

func list() []registry.Instance {
	return []registry.Instance{
		{Service: "echo", ID: "b", Address: "10.0.0.2:50051", Region: "fra"},
		{Service: "echo", ID: "a", Address: "10.0.0.1:50051", Region: "ams", State: registry.Draining},
		{Service: "auth", ID: "z", Address: "auth.internal:50051"},
	}
}

func TestSnapshotIsTheList(t *testing.T) {
	in := list()
	s, err := static.New(nil, in)
	if err != nil {
		t.Fatal(err)
	}
	if in[0].Incarnation != "" {
		t.Error("New wrote into the caller's list")
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil || snap.Version == 0 || snap.Rejected != 0 {
		t.Fatalf("snapshot %+v, %v", snap, err)
	}
	var got []string
	for _, inst := range snap.Instances {
		if inst.Incarnation != static.Incarnation || inst.Schema != registry.SchemaVersion {
			t.Errorf("not filled in: %+v", inst)
		}
		got = append(got, inst.Key().String()+" "+string(inst.State))
	}
	if want := "auth/z serving, echo/a draining, echo/b serving"; strings.Join(got, ", ") != want {
		t.Errorf("instances are %v, want %s", got, want)
	}
	snap.Instances[0].Service = "changed"
	if again, _ := s.Snapshot(t.Context()); again.Instances[0].Service != "auth" {
		t.Error("a caller can change the list")
	}
}

func TestFaultsNameTheEntry(t *testing.T) {
	codec := &registry.Codec{AllowedNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for name, c := range map[string]struct {
		change func([]registry.Instance)
		is     error
	}{
		"no service":  {func(l []registry.Instance) { l[2].Service = "" }, registry.ErrMalformed},
		"no port":     {func(l []registry.Instance) { l[2].Address = "10.0.0.1" }, registry.ErrAddress},
		"network":     {func(l []registry.Instance) { l[2].Address = "192.0.2.1:1" }, registry.ErrNetwork},
		"wrong state": {func(l []registry.Instance) { l[2].State = "tired" }, registry.ErrMalformed},
		"twice":       {func(l []registry.Instance) { l[2] = l[0] }, nil},
	} {
		l := list()
		c.change(l)
		_, err := static.New(codec, l)
		if err == nil || !strings.Contains(err.Error(), "instance 2") || (c.is != nil && !errors.Is(err, c.is)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRegistrationIsAcceptedAndUnseen(t *testing.T) {
	s, err := static.New(nil, list())
	if err != nil {
		t.Fatal(err)
	}
	inst := registry.Instance{Service: "echo", ID: "me", Incarnation: "one"}
	version, err := s.Register(t.Context(), inst, time.Second, true)
	if err != nil {
		t.Error(err)
	}
	owned := registry.Owned{Key: inst.Key(), Incarnation: "one"}
	reply, err := s.Beat(t.Context(), registry.Beat{Lease: time.Second, Owned: []registry.Owned{owned}, Ask: []registry.Key{inst.Key()}})
	if err != nil || len(reply.Standings) != 1 || reply.Standings[0] != registry.Current || len(reply.Loads) != 0 {
		t.Errorf("beat gave %+v, %v", reply, err)
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil || len(snap.Instances) != 3 || snap.Version != reply.Version || version != reply.Version {
		t.Errorf("snapshot %+v, %v", snap, err)
	}
	if err := s.Deregister(t.Context(), inst.Key(), "one"); err != nil {
		t.Error(err)
	}
	if loads, err := s.Loads(t.Context()); err != nil || len(loads) != 0 {
		t.Errorf("loads %v, %v", loads, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestEndedContextIsRespected(t *testing.T) {
	s, err := static.New(nil, list())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, register := s.Register(ctx, registry.Instance{}, 0, true)
	_, beat := s.Beat(ctx, registry.Beat{})
	_, snapshot := s.Snapshot(ctx)
	_, loads := s.Loads(ctx)
	for op, err := range map[string]error{
		"register": register, "deregister": s.Deregister(ctx, registry.Key{}, ""),
		"beat": beat, "snapshot": snapshot, "loads": loads,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestWatchSaysResetOnceAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := static.New(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		var got []registry.Change
		err = s.Watch(ctx, func(c registry.Change) { got = append(got, c) })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Hour {
			t.Errorf("watch ended after %v with %v", time.Since(began), err)
		}
		if len(got) != 1 || got[0].Kind != registry.Reset {
			t.Errorf("watch said %+v", got)
		}
	})
}

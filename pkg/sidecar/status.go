package sidecar

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/discovery"
	"github.com/flyproxy/flyproxy/pkg/fly"
	"github.com/flyproxy/flyproxy/pkg/registrar"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/routing"
	"github.com/flyproxy/flyproxy/pkg/telemetry"
)

// Ready tells whether calls can be taken: the port accepts, a first view exists (an empty one counts: a first deploy would wait
// for itself otherwise), and we are not draining.
func (s *Sidecar) Ready() admin.Readiness {
	d := s.discovery.Status()
	r := admin.Readiness{Ready: s.serving.Load() && d.State != discovery.Connecting && !s.draining.Load(), Reasons: []string{}}
	why := func(format string, args ...any) {
		r.Degraded = true
		r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...))
	}
	if s.draining.Load() {
		why("draining: this sidecar is about to end")
	}
	switch d.State {
	case discovery.Connecting:
		why("the registry (%s) was not reached yet: %s", s.cfg.Registry.Store, cmp.Or(d.LastError, errText(s.beater.Status().Err), "connecting"))
	case discovery.Stale:
		why("the registry (%s) does not confirm the view; calls go on with the last one, from %s ago: %s", s.cfg.Registry.Store,
			time.Since(d.ConfirmedAt).Round(time.Second), cmp.Or(d.LastError, errText(s.beater.Status().Err), "no answer"))
	}
	if s.serverTLS != nil {
		if trouble := s.serverTLS.Trouble(); trouble != "" {
			why("downstream.tls: %s", trouble)
		}
	}
	s.sayExcluded(why)
	for _, reg := range s.registrars {
		st := reg.Status()
		if st.Reason != "" && !s.draining.Load() {
			why("app %s is not registered: %s", st.App, st.Reason)
		}
	}
	return r
}

// maxSaid is how many of a kind are said one by one.
const maxSaid = 3

func (s *Sidecar) sayExcluded(why func(format string, args ...any)) {
	all := s.router.Excluded()
	for i, x := range all {
		if i == maxSaid {
			why("%d more get no calls from here for the like", len(all)-i)
			return
		}
		why("%s at %s gets no calls from here: %s; correct who registers or lists it", x.Key, x.Address, x.Why)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Status tells all that this sidecar knows. It reads the load table from the registry, within ctx.
func (s *Sidecar) Status(ctx context.Context) admin.Status {
	now := time.Now()
	d, beats := s.discovery.Status(), s.beater.Status()
	st := admin.Status{
		Self: admin.Self{
			InstanceID: s.cfg.InstanceID, Region: s.cfg.Region, Mode: s.cfg.Mode, Engine: s.cfg.Engine, Version: s.version,
			StartedAt: s.started, UptimeS: admin.Seconds(now.Sub(s.started)), Listen: s.Addresses(), Apps: s.appStatus(),
		},
		Registry: admin.Registry{
			Store: s.cfg.Registry.Store, State: string(d.State), Source: d.Source, Version: d.Version, ConfirmedAt: d.ConfirmedAt,
			StalenessS: admin.Seconds(s.staleness()), LastError: cmp.Or(d.LastError, errText(beats.Err)),
			LatencyMS: admin.Milliseconds(beats.Latency),
		},
		Routing: admin.Routing{Policy: s.router.Policy(), Picks: s.router.Picks(), Unroutable: s.router.Unroutable()},
	}
	if s.rejected != nil {
		st.Registry.Rejected = s.rejected()
	}
	for _, k := range s.self() {
		if !slices.Contains(st.Self.Services, k.Service) {
			st.Self.Services = append(st.Self.Services, k.Service)
		}
	}
	st.Instances, st.LoadsError = s.instances(ctx, now)
	st.Counts = admin.Count(st.Instances)
	return st
}

// instances are all entries of the view with their loads and our own view of them, the nearest region first.
func (s *Sidecar) instances(ctx context.Context, now time.Time) (out []admin.Instance, loadsError string) {
	loads, err := s.store.Loads(ctx)
	if err != nil {
		loadsError = err.Error()
	}
	byKey := make(map[registry.Key]registry.LoadReport, len(loads))
	for _, l := range loads {
		byKey[l.Key] = l
	}
	peers, links, self := s.router.Peers(), s.links(), s.self()
	entries := s.discovery.View().Entries
	out = make([]admin.Instance, 0, len(entries))
	for i := range entries {
		key := entries[i].Instance.Key()
		in := admin.NewInstance(&entries[i], now)
		in.Self = slices.Contains(self, key)
		if l, ok := byKey[key]; ok {
			in.SetLoad(l)
		}
		p := peers[key]
		in.View = admin.View{
			InFlight: p.InFlight, BackedOff: p.BackedOff, Refusals: p.Refusals,
			Connections: links[key].connections, RTTMS: admin.Milliseconds(links[key].rtt),
		}
		out = append(out, in)
	}
	slices.SortStableFunc(out, func(a, b admin.Instance) int {
		return cmp.Or(cmp.Compare(s.km(a.Region), s.km(b.Region)), strings.Compare(a.Region, b.Region),
			strings.Compare(a.Service, b.Service), strings.Compare(a.ID, b.ID))
	})
	return out, loadsError
}

// km is the distance to a region, for sorting: unknown ones come last.
func (s *Sidecar) km(region string) float64 {
	if km, known := fly.Distance(s.cfg.Region, region); known {
		return km
	}
	return 1e9
}

func (s *Sidecar) appStatus() []admin.App {
	out := make([]admin.App, 0, len(s.registrars))
	for _, r := range s.registrars {
		st := r.Status()
		app := admin.App{
			Name: st.App, Service: st.Service, Address: st.AppAddress, Reason: st.Reason, Registration: registration(st),
			Health: admin.Health{State: st.Health.State(), How: st.Health.How, Detail: st.Health.Detail, Since: st.Health.Since},
		}
		if st.Inbound.Listening {
			app.Inbound = st.Address
		}
		out = append(out, app)
	}
	return out
}

// registration is the word for where an app's registration stands.
func registration(st registrar.Status) string { return cmp.Or(string(st.Registration.Phase), "none") }

// staleness is the time since the registry confirmed our view; before the first view, since the start.
func (s *Sidecar) staleness() time.Duration {
	if at := s.discovery.Status().ConfirmedAt; !at.IsZero() {
		return time.Since(at)
	}
	return time.Since(s.started)
}

// sources are what the metrics read at each scrape.
func (s *Sidecar) sources() telemetry.Sources {
	return telemetry.Sources{
		Engine: s.engineState, Instances: s.instanceKinds, Staleness: s.staleness, Rejected: s.rejected,
		Policy: s.router.Policy(), Picks: s.router.Picks, Unroutable: s.router.Unroutable,
		RefusedClients: s.refusedClients(),
		Registrations: func() map[string]string {
			m := make(map[string]string)
			for _, r := range s.registrars {
				st := r.Status()
				m[st.App] = registration(st)
			}
			return m
		},
		Inbound: func() map[string]int {
			m := make(map[string]int)
			for _, r := range s.registrars {
				st := r.Status()
				m[st.App] = int(st.Inbound.Connections)
			}
			return m
		},
	}
}

func (s *Sidecar) instanceKinds() map[telemetry.InstanceKind]int {
	peers := s.router.Peers()
	m := make(map[telemetry.InstanceKind]int)
	for _, e := range s.discovery.View().Entries {
		m[telemetry.InstanceKind{Service: e.Instance.Service, State: stateOf(e, peers[e.Instance.Key()])}]++
	}
	return m
}

// stateOf is the one state in which an instance counts in metrics: the one that matters most.
func stateOf(e registry.Entry, p routing.PeerStatus) string {
	switch {
	case e.Instance.State == registry.Draining:
		return "draining"
	case p.BackedOff:
		return "backed_off"
	case e.Held:
		return "held"
	}
	return "serving"
}

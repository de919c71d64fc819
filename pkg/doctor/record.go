package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
)

// record looks for the records of this Machine's apps, and whether they are what this Machine wrote.
func (e *examination) record(ctx context.Context, f *findings) {
	switch {
	case e.gateway():
		f.add(recordNotExpected, "", "a gateway registers nothing", "")
		return
	case !e.cfg.Registration.Enabled:
		f.add(recordNotExpected, "", "registration.enabled is false", "")
		return
	case e.cfg.Registry.Store == config.StoreStatic:
		f.add(recordNotExpected, "", "the registry is a list: what stands there is what others see", "")
		return
	case e.view == nil:
		f.skip("", "the registry was not read")
		return
	}
	st, running := e.sidecarStatus(ctx)
	id := e.cfg.InstanceID
	if running {
		id = st.Self.InstanceID // generated anew by each process
	} else if e.cfg.Source("instance_id") == "generated" {
		f.skip("", "no flyproxy runs, and instance_id is generated anew at every start")
		return
	}
	named := *e.cfg
	named.InstanceID = id
	for i := range named.Apps {
		app := named.Apps[i]
		key := registry.Key{Service: app.Service, ID: named.ID(app)}
		one := ownRecord{f: f, e: e, cfg: &named, app: app, key: key, subject: key.String(), running: running}
		if running {
			one.sidecar = st
			for n := range st.Self.Apps {
				if st.Self.Apps[n].Name == app.Name {
					one.state = &st.Self.Apps[n]
				}
			}
		}
		one.judge()
	}
}

// ownRecord is one app's record and what is known of it here.
type ownRecord struct {
	f       *findings
	e       *examination
	cfg     *config.Config
	app     config.App
	key     registry.Key
	subject string
	running bool
	sidecar *admin.Status // where one runs
	state   *admin.App    // what it says of the app; nil where it does not
}

func (o *ownRecord) judge() {
	inst, found := o.find()
	superseded := o.state != nil && o.state.Registration == admin.Superseded
	switch {
	case superseded:
		text := "another process registered under this name, and this flyproxy has stopped"
		if found {
			text += "; that one is at " + inst.Address + ", started " + inst.StartedAt.Format(time.DateTime)
		}
		o.f.add(recordSuperseded, o.subject, text, "give each its own FLYPROXY_INSTANCE_ID, or end one; a second flyproxy on this Machine is the usual case")
	case !found && !o.running:
		o.f.add(recordNotExpected, o.subject, "not registered, as no flyproxy runs here", "")
	case !found:
		o.missing()
	case !o.running:
		o.f.add(recordLeft, o.subject, "registered at "+inst.Address+", though no flyproxy runs here", "nothing: without beats it ends with its lease, "+
			o.e.cfg.Registration.Lease.String()+"; if it stays, another host uses this instance_id")
	case !inst.StartedAt.Equal(o.sidecar.Self.StartedAt.UTC().Truncate(time.Millisecond)):
		o.f.add(recordOther, o.subject, fmt.Sprintf("the record is of another process: at %s, started %s, and the flyproxy here started %s", inst.Address,
			inst.StartedAt.UTC().Format(time.RFC3339), o.sidecar.Self.StartedAt.UTC().Format(time.RFC3339)),
			"give each its own FLYPROXY_INSTANCE_ID; right after a start, wait for a beat and look again")
	case inst.State == registry.Draining:
		o.f.add(recordDraining, o.subject, "draining: peers send no new calls", "")
	default:
		o.agrees(inst)
	}
}

func (o *ownRecord) find() (*registry.Instance, bool) {
	for i := range o.e.view.Instances {
		if in := &o.e.view.Instances[i]; in.Key() == o.key {
			return in, true
		}
	}
	return nil, false
}

// missing says that there is no record, in the sidecar's own words as far as it has any.
func (o *ownRecord) missing() {
	switch {
	case o.state != nil && o.state.Reason == admin.ReasonDraining:
		o.f.add(recordNotExpected, o.subject, "not registered: this flyproxy is draining", "")
	case o.state != nil && strings.HasPrefix(o.state.Reason, withdrawn):
		o.f.add(recordWithdrawn, o.subject, o.state.Reason+": no calls of peers come", withdrawnFix(o.state.Reason))
	case o.state != nil && o.state.Reason != "":
		o.f.add(recordMissing, o.subject, "not registered: "+o.state.Reason, "see app and redis above")
	default:
		o.f.add(recordMissing, o.subject, "not registered", "see its log and redis above; right after a start, look again in a moment")
	}
}

// withdrawn begins the reason of an app that somebody keeps out of the registry; who does so follows (registrar.Holder).
const withdrawn = "withdrawn "

// withdrawnFix says what brings a withdrawn app back. Each who holds it lets go by himself, so that what one does is not enough where
// there are two.
func withdrawnFix(reason string) string {
	switch by := strings.TrimPrefix(reason, withdrawn); {
	case strings.Contains(by, onRequest) && by != onRequest:
		return "flyproxy withdraw --undo takes back what was on request; the rest ends with its cause"
	case by == onRequest:
		return "flyproxy withdraw --undo, unless this Machine is about to stop"
	}
	return "nothing, if a stop or a restart is under way; if it stays, see the log, and restart flyproxy where the app runs and serves"
}

// onRequest is the holder that people are: flyproxy withdraw --now.
const onRequest = "on request"

// agrees compares the record with what this Machine would register.
func (o *ownRecord) agrees(in *registry.Instance) {
	want, err := sidecar.AdvertisedAddress(o.cfg, o.app)
	switch {
	case err == nil && want != in.Address:
		o.f.add(recordDiffers, o.subject, "registered at "+in.Address+", and this configuration gives "+want,
			"restart flyproxy, whose address may be from before this Machine moved; or run doctor with its environment")
	case in.Region != o.cfg.Region:
		o.f.add(recordDiffers, o.subject, fmt.Sprintf("registered in region %q, and this configuration says %q", in.Region, o.cfg.Region), "restart flyproxy, or run doctor with its environment")
	default:
		o.f.add(recordCurrent, o.subject, fmt.Sprintf("%s at %s, of the flyproxy that runs here", in.State, in.Address), "")
	}
}

package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/flyproxy/flyproxy/pkg/admin"
)

// askLimit bounds the question to the sidecar of this Machine, which may have to ask Redis for loads.
const askLimit = 4 * time.Second

// dialable is an address to reach a listener on address at, from this host.
func dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		if ip.To4() != nil {
			return net.JoinHostPort("127.0.0.1", port)
		}
		return net.JoinHostPort("localhost", port) // [::] takes both, and the host may have no ::1
	}
	return address
}

// sidecar asks the flyproxy that runs here what it thinks itself.
func (e *examination) sidecar(ctx context.Context, f *findings) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	at := dialable(e.cfg.Admin.Listen)
	st, err := admin.FetchStatus(ctx, at)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		f.add(sidecarAbsent, at, "no flyproxy runs here: nothing answers at admin.listen", "start it, with supervisord or flyproxy run, and read its first log lines")
		return
	case err != nil:
		f.add(sidecarNoAnswer, at, err.Error(), "if a flyproxy runs, its admin listener is elsewhere (admin.listen), or it hangs: see its log")
		return
	}
	e.status, e.answered = st, true
	if !st.Readiness.Ready {
		f.add(sidecarNotReady, at, admin.PathReady+" answers 503: it is starting, draining, or has no view of the registry yet",
			"read the reasons below; Fly's check on "+admin.PathReady+" fails meanwhile")
	} else {
		f.add(sidecarReady, at, fmt.Sprintf("flyproxy %s, %s, %s, up %s; knows %d, of which %d serve", st.Self.Version, st.Self.Mode,
			"engine "+st.Self.Engine, seconds(st.Self.UptimeS), st.Counts.Known, st.Counts.Serving), "")
	}
	for _, reason := range st.Readiness.Reasons {
		f.add(sidecarDegraded, admin.PathReady, reason, reasonFix(reason))
	}
	if st.Registry.State == admin.StateStale && len(st.Readiness.Reasons) == 0 {
		f.add(sidecarStale, admin.PathStatus, "its view of the registry was not confirmed for "+seconds(st.Registry.StalenessS), "see the check of Redis")
	}
	if st.Routing.Unroutable > 0 {
		f.add(sidecarUnroutable, admin.PathStatus, fmt.Sprintf("%d calls since its start found no instance (No gRPC instances available)",
			st.Routing.Unroutable), "see the access log for which; calls before the first instance was registered count too")
	}
	e.compare(f, &st)
}

// reasonFix says what to do about a reason of the readiness, beyond what it says itself.
func reasonFix(reason string) string {
	switch {
	case strings.HasPrefix(reason, "draining"):
		return "nothing, if this Machine is being stopped; else start flyproxy again"
	case strings.HasPrefix(reason, "the registry"):
		return "see redis and registry below"
	}
	return "see app and record below"
}

// compare tells where the sidecar that runs is not the one that this configuration speaks of.
func (e *examination) compare(f *findings, st *admin.Status) {
	for _, c := range []struct{ what, ours, its string }{
		{"mode", e.cfg.Mode, st.Self.Mode}, {"instance_id", e.cfg.InstanceID, st.Self.InstanceID}, {"region", e.cfg.Region, st.Self.Region},
		{"engine", e.cfg.Engine, st.Self.Engine}, {"registry.store", e.cfg.Registry.Store, st.Registry.Store},
	} {
		if c.ours == c.its || c.what == "instance_id" && e.cfg.Source("instance_id") == "generated" {
			continue
		}
		f.add(sidecarOther, c.what, fmt.Sprintf("the flyproxy that runs has %q, this configuration says %q", c.its, c.ours),
			"run doctor with the environment and the --config of that flyproxy, or restart it if the configuration is newer")
	}
	if st.Self.Version != e.o.Version {
		f.add(sidecarVersion, "", fmt.Sprintf("flyproxy %s runs, this is %s", st.Self.Version, e.o.Version), "")
	}
}

func seconds(s float64) string {
	return (time.Duration(s * float64(time.Second))).Round(time.Second).String()
}

package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/tlsfiles"
)

const (
	// atOnce bounds how many peers are looked at at the same time.
	atOnce = 16
	// connects is how many connects to a peer give its round-trip time.
	connects = 3
)

// peers looks at every registered instance that is not of this Machine, as the data plane would reach it.
func (e *examination) peers(ctx context.Context, f *findings) {
	if e.view == nil {
		f.skip("", "the registry was not read")
		return
	}
	others := e.others(ctx)
	if len(others) == 0 {
		found := "nobody else is registered: calls go to this Machine's own app, or end with No gRPC instances available"
		f.add(peersNone, "", found, "if there are other Machines, run flyproxy doctor there; all need the same Redis and registry.namespace")
		return
	}
	secured, err := e.upstreamTLS()
	if err != nil {
		f.add(peersTLSFiles, "upstream.tls", err.Error(), "correct the files that upstream.tls names")
		f.skip("", "upstream.tls cannot be set up")
		return
	}
	each := make([]*findings, len(others))
	turn := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, in := range others {
		each[i] = &findings{check: f.check}
		turn <- struct{}{} // every holder is bounded by ctx
		all.Go(func() {
			defer func() { <-turn }()
			e.peer(ctx, each[i], in, secured)
		})
	}
	all.Wait()
	for _, one := range each {
		f.all = append(f.all, one.all...)
	}
	e.backedOff(ctx, f)
}

// others are the instances that are not ours, our own region first.
func (e *examination) others(ctx context.Context) []*registry.Instance {
	id := e.cfg.InstanceID
	if st, ok := e.sidecarStatus(ctx); ok {
		id = st.Self.InstanceID
	}
	var out []*registry.Instance
	for i := range e.view.Instances {
		in := &e.view.Instances[i]
		if in.ID == id || strings.HasPrefix(in.ID, id+"/") {
			continue
		}
		out = append(out, in)
	}
	slices.SortFunc(out, func(a, b *registry.Instance) int {
		far := func(in *registry.Instance) int {
			if in.Region == e.cfg.Region {
				return 0
			}
			return 1
		}
		return cmp.Or(far(a)-far(b), cmp.Compare(a.Region, b.Region), cmp.Compare(a.Key().String(), b.Key().String()))
	})
	return out
}

// upstreamTLS is how peers are spoken to; nil is plaintext.
func (e *examination) upstreamTLS() (func() *tls.Config, error) {
	up := e.cfg.Upstream.TLS
	if !up.Enabled {
		return nil, nil
	}
	files, err := tlsfiles.New(tlsfiles.Config{CAFile: up.CAFile, CertFile: up.CertFile, KeyFile: up.KeyFile, ServerName: up.ServerName})
	if err != nil {
		return nil, err
	}
	return files.TLS, nil
}

func (e *examination) allowedNetworks() []netip.Prefix {
	if e.cfg.Registry.Store == config.StoreStatic {
		return nil
	}
	return e.cfg.Registry.Networks()
}

// peer looks at one: TCP, TLS where it is on, HTTP/2, health.
func (e *examination) peer(ctx context.Context, f *findings, in *registry.Instance, secured func() *tls.Config) {
	subject := fmt.Sprintf("%s in %s at %s", in.Key(), orUnknown(in.Region), in.Address)
	if late(ctx) {
		f.skip(subject, "time ran out")
		return
	}
	g, err := greet(ctx, target{
		network: "tcp", address: in.Address, tls: secured, timeout: e.cfg.Upstream.ConnectTimeout, connects: connects, control: within(e.allowedNetworks()),
	})
	switch {
	case err != nil && in.State == registry.Draining:
		f.add(peersDraining, subject, "draining, and not reached: "+plain(err), "")
		return
	case err != nil && late(ctx):
		f.skip(subject, "time ran out")
		return
	case err != nil:
		e.peerFault(f, subject, in, err)
		return
	}
	text := fmt.Sprintf("connects in %s; %s", short(g.connect), g)
	if in.State == registry.Draining {
		f.add(peersDraining, subject, "draining; "+text, "")
		return
	}
	e.peerHealth(ctx, f, subject, in, secured, text)
}

// peerFault says why a peer is not reached.
func (e *examination) peerFault(f *findings, subject string, in *registry.Instance, err error) {
	var name *net.DNSError
	up := e.cfg.Upstream.TLS
	switch {
	case errors.As(err, &name):
		f.add(peersName, subject, lookupFault(name), "correct registration.address on that Machine; on Fly, <machine>.vm.<app>.internal resolves, <machine>.internal does not")
	case errors.Is(err, registry.ErrNetwork):
		f.add(peersNetwork, subject, err.Error(), "add its network to registry.allowed_networks, or correct registration.address on that Machine")
	case errors.Is(err, syscall.ECONNREFUSED):
		f.add(peersRefused, subject, plain(err), "if that Machine was just stopped, its record ends with its lease; else run flyproxy doctor there: see app")
	case errors.Is(err, errSpeaksTLS):
		f.add(peersSpeakTLS, subject, "it speaks TLS, and upstream.tls is off here", "set upstream.tls.enabled on every flyproxy, or have the app listen without TLS")
	case errors.Is(err, errSpeaksPlain):
		f.add(peersSpeakPlain, subject, "it speaks plaintext, and upstream.tls is on here", "have the app there serve TLS, or set upstream.tls.enabled to false everywhere")
	case errors.Is(err, errALPN):
		f.add(peersNotHTTP2, subject, errALPN.Error(), `have its TLS offer "h2" by ALPN`)
	case ofCertificate(err):
		found, do := certificateFault(err, "upstream.tls.ca_file", "upstream.tls.server_name")
		f.add(peersCertificate, subject, found, do)
	case errors.Is(err, errRefusesUs), alerted(err):
		do := "set upstream.tls.cert_file and key_file to a certificate that the peers take"
		if up.CertFile != "" {
			do = "see which authority the peers take, and that " + up.CertFile + " is signed by it and has not ended"
		}
		f.add(peersRefuseUs, subject, err.Error(), do)
	case errors.Is(err, errHTTP1), errors.Is(err, errOtherBytes), errors.Is(err, errCloses), errors.Is(err, errSilent):
		f.add(peersNotHTTP2, subject, "accepts TCP, but: "+err.Error(), "run flyproxy doctor on that Machine: its GRPC_PORT is not its gRPC server's, or the app hangs")
	default:
		f.add(peersUnreachable, subject, plain(err)+" (upstream.connect_timeout is "+e.cfg.Upstream.ConnectTimeout.String()+")", e.pathFix(in))
	}
}

func (e *examination) pathFix(in *registry.Instance) string {
	host, _, _ := net.SplitHostPort(in.Address)
	if ip, err := netip.ParseAddr(host); err == nil && e.cfg.Fly.OnFly && ip.Is4() {
		return "6PN is IPv6 only: leave registration.address at auto on that Machine"
	}
	return "if that Machine is gone, its record ends with its lease; else see that both are in the same organisation and network, and no firewall is between"
}

// peerHealth asks a peer's app for its health, for the server as a whole: which name it goes by is known there only.
func (e *examination) peerHealth(ctx context.Context, f *findings, subject string, in *registry.Instance, secured func() *tls.Config, text string) {
	var cfg *tls.Config
	if secured != nil {
		cfg = secured()
	}
	cc, err := dialGRPC(in.Address, cfg)
	if err != nil {
		f.add(peersReached, subject, text, "")
		return
	}
	defer func() { _ = cc.Close() }()
	call, cancel := context.WithTimeout(ctx, max(2*e.cfg.Upstream.ConnectTimeout, hereLimit))
	defer cancel()
	reply, err := healthpb.NewHealthClient(cc).Check(call, &healthpb.HealthCheckRequest{})
	code := status.Code(err)
	switch {
	case err == nil && reply.GetStatus() == healthpb.HealthCheckResponse_SERVING:
		f.add(peersReached, subject, text+"; SERVING", "")
	case err == nil:
		f.add(peersNotServing, subject, text+"; its health service says "+reply.GetStatus().String(), "see that app's log; its flyproxy takes the record back by itself")
	case code == codes.Unimplemented || code == codes.NotFound || code == codes.Unauthenticated || code == codes.PermissionDenied:
		f.add(peersNoHealth, subject, text+"; its health is not told ("+code.String()+")", "")
	case late(ctx):
		f.add(peersReached, subject, text+"; health not asked, as time ran out", "")
	default:
		f.add(peersNotServing, subject, fmt.Sprintf("%s; its health check fails with %s: %s", text, code, clip(status.Convert(err).Message())), "run flyproxy doctor on that Machine: see app")
	}
}

// backedOff tells of peers that the sidecar which runs here leaves alone at the moment.
func (e *examination) backedOff(ctx context.Context, f *findings) {
	st, ok := e.sidecarStatus(ctx)
	if !ok {
		return
	}
	for i := range st.Instances {
		if in := &st.Instances[i]; in.View.BackedOff {
			f.add(peersBackedOff, in.Service+"/"+in.ID, fmt.Sprintf("the flyproxy here leaves it alone: it refused %d times in a row", in.View.Refusals),
				"see what is said of it above; it is tried again by itself, after 10 s at most (routing.backoff.max)")
		}
	}
}

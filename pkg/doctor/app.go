package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registrar"
	"github.com/flyproxy/flyproxy/pkg/sidecar"
)

// apps looks at each app of this Machine.
func (e *examination) apps(ctx context.Context, f *findings) {
	switch {
	case e.gateway():
		f.add(appNone, "", "a gateway has no app of its own", "")
		return
	case !e.cfg.Registration.Enabled:
		f.add(appNone, "", "registration.enabled is false: this flyproxy calls others and is not called", "")
		return
	}
	each := make([]*findings, len(e.cfg.Apps))
	var all sync.WaitGroup
	for i, app := range e.cfg.Apps {
		each[i] = &findings{check: f.check}
		all.Go(func() { e.app(ctx, each[i], app) })
	}
	all.Wait()
	for _, one := range each {
		f.all = append(f.all, one.all...)
	}
}

// app looks at one app as a sidecar does, from its port to its address for peers.
func (e *examination) app(ctx context.Context, f *findings, app config.App) {
	if app.Address == "" {
		f.skip(app.Name, "its address in the configuration is at fault")
		return
	}
	advertised, advertisedErr := sidecar.AdvertisedAddress(e.cfg, app)
	at := app.Address
	subject := app.Name + " at " + at
	if err := probe(ctx, at); err != nil {
		if !errors.Is(err, syscall.ECONNREFUSED) || advertisedErr != nil || advertised == at || probe(ctx, advertised) != nil ||
			e.splices(ctx, advertised) {
			e.appAway(ctx, f, subject, app, err)
			f.skip(subject, "it does not accept connections: HTTP/2, health, reflection, address for peers")
			return
		}
		f.add(appElsewhere, subject, "it does not accept here but at "+advertised+", which flyproxy takes then", "")
		at = advertised
	} else {
		f.add(appAccepts, subject, "accepts connections"+e.whoHas(at), "")
	}
	if e.appSpeaks(ctx, f, subject, app, at) {
		health := healthCheck{f: f, subject: subject, app: app, limit: max(app.Health.Timeout, hereLimit)}
		health.run(ctx, at)
		e.reflection(ctx, f, subject, app, at)
	} else {
		f.skip(subject, "it does not speak plaintext HTTP/2: health, reflection")
	}
	if advertisedErr != nil {
		f.skip(subject, "the address for peers cannot be formed: "+advertisedErr.Error())
		return
	}
	e.reachedByPeers(ctx, f, app, at, advertised)
}

// appAway says that the app does not accept connections.
func (e *examination) appAway(ctx context.Context, f *findings, subject string, app config.App, err error) {
	switch {
	case late(ctx):
		f.skip(subject, "time ran out")
	case errors.Is(err, syscall.ECONNREFUSED):
		do := "start the app, or set apps[].address (GRPC_PORT, GRPC_BIND_ADDRESS) to where it listens; its own log says which port that is"
		f.add(appRefused, subject, "nothing listens here"+e.elsewhere(app), do)
	default:
		f.add(appUnreachable, subject, plain(err), "set apps[].address to where the app listens; if it is right, the app accepts no more: restart it")
	}
}

// elsewhere tells where on the host something listens on the app's port, if not at its address.
func (e *examination) elsewhere(app config.App) string {
	var at []string
	for _, l := range listening(app.Port()) {
		at = append(at, l.address.String())
	}
	if len(at) == 0 {
		return ""
	}
	return "; somebody listens on that port at " + strings.Join(at, ", ")
}

// appSpeaks tells whether the app answers as a plaintext HTTP/2 server, as health checks and peers without upstream.tls need it.
func (e *examination) appSpeaks(ctx context.Context, f *findings, subject string, app config.App, at string) bool {
	secured := e.cfg.Upstream.TLS.Enabled
	limit := max(app.Health.Timeout, hereLimit)
	g, err := greet(ctx, target{network: "tcp", address: at, timeout: limit, connects: 1})
	switch {
	case err == nil && secured:
		f.add(appPlain, subject, "it speaks plaintext, and upstream.tls is on: peers that are configured like this one speak TLS to it",
			"have the app serve TLS, or set upstream.tls.enabled to false everywhere")
		return true
	case err == nil:
		f.add(appHTTP2, subject, "plaintext "+g.String(), "")
		return true
	case errors.Is(err, errSpeaksTLS) && secured:
		e.appTLS(ctx, f, subject, app, target{network: "tcp", address: at, timeout: limit, connects: 1})
	case errors.Is(err, errSpeaksTLS):
		f.add(appTLS, subject, "it speaks TLS, and flyproxy plaintext, which stays on this Machine or on 6PN",
			"have the app listen without TLS, or set upstream.tls on every flyproxy of the cluster, and health.mode to tcp")
	case late(ctx):
		f.skip(subject, "time ran out")
	case errors.Is(err, errSilent): // the kernel accepts for a process that does not run
		f.add(appSilent, subject, plain(err)+e.whoHas(at), "it hangs or is stopped: restart the app, its log says what it did last; if it never spoke gRPC, "+
			"set apps[].address (GRPC_PORT) to the port of the gRPC server")
	default:
		f.add(appNotHTTP2, subject, plain(err)+e.whoHas(at), "set apps[].address (GRPC_PORT) to the port of the gRPC server; this one is another")
	}
	return false
}

// appTLS looks at an app that speaks TLS as the peers are to.
func (e *examination) appTLS(ctx context.Context, f *findings, subject string, app config.App, t target) {
	if app.Health.Mode != "tcp" && app.Health.Mode != "none" {
		f.add(appHealthMode, subject, "it speaks TLS, and health.mode "+app.Health.Mode+" asks in plaintext", "set apps[].health.mode to tcp")
	}
	t.tls = func() *tls.Config { return &tls.Config{InsecureSkipVerify: true} } // whose name it has is the peers' to judge
	g, err := greet(ctx, t)
	switch {
	case err == nil:
		f.add(appHTTP2, subject, "TLS, "+g.String(), "")
	case errors.Is(err, errALPN):
		f.add(appNotHTTP2, subject, err.Error()+": peers refuse that", `have its TLS offer "h2" by ALPN`)
	case errors.Is(err, errRefusesUs), alerted(err):
		f.add(appHTTP2, subject, "TLS, for clients with a certificate", "")
	default:
		f.add(appNotHTTP2, subject, "TLS, and then: "+plain(err), "set apps[].address (GRPC_PORT) to the port of the gRPC server")
	}
}

// splices tells whether the sidecar that runs here listens at address for an app.
func (e *examination) splices(ctx context.Context, address string) bool {
	st, ok := e.sidecarStatus(ctx)
	if !ok {
		return false
	}
	for _, a := range st.Self.Apps {
		if a.Inbound == address {
			return true
		}
	}
	return false
}

// reachedByPeers looks at the address that peers are told to dial.
func (e *examination) reachedByPeers(ctx context.Context, f *findings, app config.App, at, advertised string) {
	subject := app.Name + " for peers at " + advertised
	spliced := e.splices(ctx, advertised)
	err := probe(ctx, advertised)
	host, _, _ := net.SplitHostPort(advertised)
	ip := net.ParseIP(host)
	switch {
	case err == nil && spliced:
		f.add(appSpliced, subject, "flyproxy listens here for the app, which does not itself"+e.bound(app), "")
	case err == nil && app.Inbound == string(registrar.InboundAlways) && !e.answered && advertised != at:
		f.add(appHidden, subject, "apps[].inbound is always, and something listens here already"+e.whoHas(advertised),
			"set apps[].inbound to auto, or bind the app to 127.0.0.1")
	case err == nil:
		f.add(appBound, subject, "accepts connections"+e.bound(app), "")
	case late(ctx):
		f.skip(subject, "time ran out")
		return
	case app.Inbound != string(registrar.InboundNever) && !e.answered && errors.Is(err, syscall.ECONNREFUSED):
		f.add(appToBeSpliced, subject, "nothing listens here"+e.bound(app)+"; flyproxy will, once it runs", "")
	default:
		f.add(appHidden, subject, plain(err)+e.bound(app), e.hiddenFix(app, err))
	}
	if err == nil && ip != nil && ip.IsLoopback() {
		f.add(appLoopback, subject, "a loopback address: only this host reaches it", "set registration.address if peers are on other hosts")
	}
}

// bound tells where the app's port is listened on.
func (e *examination) bound(app config.App) string {
	var at []string
	for _, l := range listening(app.Port()) {
		at = append(at, l.address.Addr().String())
	}
	if len(at) == 0 {
		return ""
	}
	return fmt.Sprintf(" (port %d is bound at %s)", app.Port(), strings.Join(at, " and "))
}

func (e *examination) hiddenFix(app config.App, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no interface of this host has that address: correct registration.address, or see identity"
	case app.Inbound == string(registrar.InboundNever):
		return "bind the app to [::] (GRPC_BIND_ADDRESS), or set apps[].inbound to auto, with which flyproxy listens there for it"
	}
	return "bind the app to [::] (GRPC_BIND_ADDRESS); flyproxy, which would listen there for it, does not: see sidecar and its log"
}

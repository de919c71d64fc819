package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
	"github.com/flyproxy/flyproxy/pkg/config"
)

// hereLimit bounds a step towards something on this host.
const hereLimit = 2 * time.Second

// listeners looks at the ports that flyproxy needs: whether it has them, they are free, or somebody else has them.
func (e *examination) listeners(ctx context.Context, f *findings) {
	own, err := e.o.Addresses()
	if err != nil {
		own = nil
	}
	for _, address := range e.cfg.ListenAddresses() {
		subject := "listen " + address
		if path, ok := config.SocketPath(address); ok {
			e.listener(ctx, f, subject, target{network: "unix", address: path, timeout: hereLimit, connects: 1})
			continue
		}
		if absent(address, own) {
			if host, _, _ := net.SplitHostPort(address); host != "::1" { // a host without IPv6 has only one localhost, which will do
				f.add(listenersNoAddress, subject, "this host has no such address", "set listen to one that it has, such as localhost:50052")
			}
			continue
		}
		if dial, ok := e.gatewayClient(ctx, address); ok {
			e.listener(ctx, f, subject, target{network: "tcp", address: dial, timeout: hereLimit, connects: 1})
		} else {
			e.notForUs(f, subject)
		}
	}
	subject := "admin.listen " + e.cfg.Admin.Listen
	switch err := probe(ctx, dialable(e.cfg.Admin.Listen)); {
	case e.answered:
		f.add(listenersFlyproxy, subject, "flyproxy answers", "")
	case absent(e.cfg.Admin.Listen, own):
		f.add(listenersNoAddress, subject, "this host has no such address", "set admin.listen to one that it has")
	case err == nil:
		f.add(listenersTaken, subject, "something else answers"+e.whoHas(e.cfg.Admin.Listen), "stop it, or set admin.listen (FLYPROXY_ADMIN_LISTEN) to a free port")
	default:
		f.add(listenersFree, subject, "free"+e.notRefused(err), "")
	}
	e.controlSocket(ctx, f)
	host, _, _ := net.SplitHostPort(e.cfg.Admin.Listen)
	if ip, err := netip.ParseAddr(host); e.cfg.Fly.OnFly && (host == "localhost" || err == nil && ip.IsLoopback()) {
		f.add(listenersAdminLocal, subject, "only this Machine reaches it: Fly's checks and [metrics] come from outside", "set admin.listen to [::]:9052")
	}
}

// controlSocket looks at where `flyproxy withdraw` asks. Nothing is asked.
func (e *examination) controlSocket(ctx context.Context, f *findings) {
	path, ok := config.SocketPath(e.cfg.Admin.Socket)
	if !ok {
		return
	}
	subject := "admin.socket " + e.cfg.Admin.Socket
	ctx, cancel := context.WithTimeout(ctx, hereLimit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		f.add(listenersFlyproxy, subject, "the control socket answers", "")
	case e.answered && errors.Is(err, fs.ErrPermission):
		f.add(listenersNoSocket, subject, "it is not for this user", "run doctor, and flyproxy withdraw, as the user that flyproxy runs as")
	case e.answered:
		f.add(listenersNoSocket, subject, "nobody answers, though a flyproxy runs: flyproxy withdraw cannot ask it", "see its log for why it did not listen there; two flyproxies need two sockets")
	default:
		f.add(listenersFree, subject, "free", "")
	}
}

// notRefused explains why a port counts as free without having said so.
func (e *examination) notRefused(err error) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return ""
	}
	return ", as far as can be seen: " + plain(err)
}

// listener looks at one address for calls.
func (e *examination) listener(ctx context.Context, f *findings, subject string, t target) {
	_, err := greet(ctx, t)
	if fallback, ok := e.cfg.ListenFallback(); ok && unknownHere(err, e.cfg.Fly.OnFly) {
		subject += ", a name that is unknown here, so " + fallback
		if t.address, ok = e.gatewayClient(ctx, fallback); !ok {
			e.notForUs(f, subject)
			return
		}
		_, err = greet(ctx, t)
	}
	switch {
	case err == nil:
	case e.gateway() && e.answered && errors.Is(err, errSpeaksTLS):
		f.add(listenersFlyproxy, subject, "it speaks TLS, as a gateway may", "")
		return
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		text := "free"
		if e.answered {
			text = "nothing listens here, though a flyproxy runs: it listens on " + strings.Join(e.status.Self.Listen, ", ")
		}
		f.add(listenersFree, subject, text, "")
		return
	case late(ctx):
		f.skip(subject, "time ran out")
		return
	case unknownName(err):
		f.add(listenersNoAddress, subject, plain(err), "set listen to an address of this host, or to a name that it knows")
		return
	default:
		f.add(listenersTaken, subject, "something else is there"+e.whoHas(t.address)+": "+plain(err),
			"stop it, or set listen (FLYPROXY_LISTEN) to a free port; the app dials that port then")
		return
	}
	name := t.address
	if t.network == "unix" {
		name = "unix://" + name
	}
	cc, err := dialGRPC(name, nil)
	if err == nil {
		defer func() { _ = cc.Close() }()
		ctx, cancel := context.WithTimeout(ctx, hereLimit)
		defer cancel()
		var list *flyproxyv1.ListInstancesResponse
		if list, err = flyproxyv1.NewDiscoveryClient(cc).ListInstances(ctx, &flyproxyv1.ListInstancesRequest{}); err == nil {
			f.add(listenersFlyproxy, subject, "flyproxy answers; instances of its own service: "+strconv.Itoa(len(list.GetInstances())), "")
			return
		}
	}
	found := "a gRPC server that is not flyproxy" + e.whoHas(t.address)
	if status.Code(err) != codes.Unimplemented {
		found = "it speaks HTTP/2, and does not answer as flyproxy" + e.whoHas(t.address) + ": " + status.Convert(err).Message()
	}
	f.add(listenersTaken, subject, found, "stop it, or set listen (FLYPROXY_LISTEN) to a free port; if it is the app, give it another port (GRPC_PORT)")
}

// notForUs says that a gateway was not dialled, as it would have refused us.
func (e *examination) notForUs(f *findings, subject string) {
	f.add(listenersNotForUs, subject, "the gateway listens here, as it says; not dialled, because none of this host's addresses is in downstream.allowed_networks ("+
		strings.Join(e.cfg.Downstream.AllowedNetworks, ", ")+")", "")
}

// unknownHere tells whether a gateway that cannot look up its own name listens on all addresses instead: off Fly always, on Fly only if
// the answer is that there is no such name.
func unknownHere(err error, onFly bool) bool {
	var name *net.DNSError
	return errors.As(err, &name) && (name.IsNotFound || !onFly)
}

// unknownName tells whether an address could not be dialled for its name.
func unknownName(err error) bool {
	var name *net.DNSError
	return errors.As(err, &name)
}

// absent tells whether an IP address to listen on is none of this host's. Where these are not known, none is said to be absent.
func absent(address string, own []netip.Addr) bool {
	host, _, err := net.SplitHostPort(address)
	ip, ipErr := netip.ParseAddr(host)
	return err == nil && ipErr == nil && len(own) > 0 && !ip.IsUnspecified() && !slices.Contains(own, ip.Unmap().WithZone("")) &&
		(!ip.Is4() || !ip.IsLoopback()) // all of 127.0.0.0/8 is the loopback interface's
}

// whoHas names the processes that listen on the port of an address, where that can be seen.
func (e *examination) whoHas(address string) string {
	_, port, err := net.SplitHostPort(address)
	n, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil {
		return ""
	}
	var names []string
	for _, l := range listening(n) {
		if name := l.program(); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// The look-up of our own name, which stands in /etc/hosts where there is one. A resolver that does not answer may do so a moment later.
const (
	resolveLimit = 5 * time.Second // all tries together
	resolveTry   = 2 * time.Second // one of them
	resolvePause = 200 * time.Millisecond
)

// listenAddresses are those of the configuration. Where nobody has said one, a gateway's is a name that only Fly's Machines know. Where
// it is unknown, a gateway listens on all addresses, and downstream.allowed_networks guards them just the same. Off Fly any failure to
// look it up says so. On Fly it stands in /etc/hosts of every Machine, so only the answer that there is no such name does; no answer is
// an error, since bad luck at boot should not open more addresses than were meant.
func listenAddresses(cfg *config.Config, r *net.Resolver, log *slog.Logger) ([]string, error) {
	fallback, ok := cfg.ListenFallback()
	if !ok {
		return cfg.ListenAddresses(), nil
	}
	find := lookupOnce
	if cfg.Fly.OnFly {
		find = lookup
	}
	var out []string
	for _, address := range cfg.ListenAddresses() {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return cfg.ListenAddresses(), nil // binding says what is wrong
		}
		ips, err := find(r, host)
		switch {
		case err == nil:
		case !cfg.Fly.OnFly || isNotFound(err):
			log.Info("this host does not know its 6PN name: listening on all addresses", "name", host, "address", fallback, "error", err)
			return []string{fallback}, nil
		default:
			return nil, fmt.Errorf("listen: whether this Machine has the name %s is not known: %w: see whether /etc/hosts has it, as on every "+
				"Machine, or set listen (or FLYPROXY_LISTEN) to the address that clients dial, or to %s for all addresses", host, err, fallback)
		}
		for _, ip := range ips {
			out = append(out, net.JoinHostPort(ip, port))
		}
		log.Info("listening on this Machine's 6PN address", "name", host, "addresses", out)
	}
	return out, nil
}

func isNotFound(err error) bool {
	var why *net.DNSError
	return errors.As(err, &why) && why.IsNotFound
}

// lookupOnce asks once, for resolveTry at the most.
func lookupOnce(r *net.Resolver, host string) ([]string, error) {
	return try(context.Background(), r, host)
}

func try(ctx context.Context, r *net.Resolver, host string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTry)
	defer cancel()
	return r.LookupHost(ctx, host)
}

// lookup asks until it is told that the name is there, or that it is not, for resolveLimit at the most.
func lookup(r *net.Resolver, host string) ([]string, error) {
	all, cancel := context.WithTimeout(context.Background(), resolveLimit)
	defer cancel()
	pause := time.NewTicker(resolvePause)
	defer pause.Stop()
	for {
		ips, err := try(all, r, host)
		if err == nil || isNotFound(err) {
			return ips, err
		}
		select {
		case <-pause.C:
		case <-all.Done():
			return nil, err
		}
		if all.Err() != nil { // both were ready
			return nil, err
		}
	}
}

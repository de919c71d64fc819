package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registry"
	"github.com/flyproxy/flyproxy/pkg/registry/embedded"
	"github.com/flyproxy/flyproxy/pkg/registry/redis"
	"github.com/flyproxy/flyproxy/pkg/registry/static"
)

// embeddedStart bounds the start of the embedded Redis, in this process or in another that is about to host it.
const embeddedStart = 5 * time.Second

// openRegistry opens the store that the configuration names. It does not wait for it: a sidecar starts also when Redis is down.
func (s *Sidecar) openRegistry() error {
	cfg := s.cfg.Registry
	redisConfig := RedisConfig(s.cfg)
	redisConfig.Logger, redisConfig.Observe = s.log, s.metrics.ObserveRegistry
	switch cfg.Store {
	case config.StoreStatic:
		store, err := static.New(nil, staticInstances(cfg.Static)) // the user's own words: no allowed_networks, no signatures
		if err != nil {
			return fmt.Errorf("registry.static: %w", err)
		}
		s.store = store
		return nil
	case config.StoreEmbedded:
		ctx, cancel := context.WithTimeout(context.Background(), embeddedStart)
		defer cancel()
		server, err := embedded.Start(ctx, embedded.Config{Address: cfg.Embedded.Address, Logger: s.log})
		if err != nil {
			return err // it names the key
		}
		s.teardown.add("embedded redis", server.Close)
	}
	store, err := redis.New(redisConfig)
	if err != nil {
		return fmt.Errorf("registry.redis: %w", err)
	}
	s.store, s.rejected = store, store.Rejected
	s.teardown.add("registry", store.Close)
	return nil
}

// RedisConfig is how the registry that the configuration names is spoken to, where that is a Redis or the embedded one.
func RedisConfig(c *config.Config) redis.Config {
	cfg := c.Registry
	r := cfg.Redis
	addresses := r.Seeds()
	if cfg.Store == config.StoreEmbedded {
		addresses, r = []string{cfg.Embedded.Address}, config.Redis{Mode: config.RedisStandalone}
	}
	var tls *redis.TLS
	if r.TLS {
		tls = &redis.TLS{CAFile: r.CAFile, ServerName: r.ServerName}
	}
	return redis.Config{
		Addresses: addresses, Mode: redis.Mode(r.Mode), Username: r.Username, Password: r.Password, DB: r.DB, TLS: tls,
		SentinelMaster: r.Sentinel.Master, SentinelUsername: r.Sentinel.Username, SentinelPassword: r.Sentinel.Password,
		DialTimeout: r.DialTimeout, Timeout: r.Timeout,
		Namespace: cfg.Namespace,
		Codec: &registry.Codec{
			MaxRecordBytes: int(cfg.MaxRecordBytes), AllowedNetworks: cfg.Networks(), SigningKey: []byte(cfg.SigningKey),
		},
	}
}

// StaticInstances are the instances that the configuration lists.
func StaticInstances(c *config.Config) []registry.Instance { return staticInstances(c.Registry.Static) }

func staticInstances(list []config.Static) []registry.Instance {
	out := make([]registry.Instance, 0, len(list))
	for _, in := range list {
		out = append(out, registry.Instance{
			Service: in.Service, ID: in.ID, Address: in.Address, Region: in.Region, Weight: uint32(in.Weight),
			GRPCServices: in.GRPCServices,
		})
	}
	return out
}

// registryErrorKind names errors of the registry for metrics, from a small fixed set.
func registryErrorKind(err error) string {
	for _, k := range []struct {
		err  error
		name string
	}{
		{context.Canceled, ""}, // our own end
		{registry.ErrSuperseded, "superseded"},
		{registry.ErrAuth, "auth"},
		{registry.ErrWrongType, "wrong_type"},
		{registry.ErrUnavailable, "unavailable"},
		{context.DeadlineExceeded, "timeout"},
	} {
		if errors.Is(err, k.err) {
			return k.name
		}
	}
	return "other"
}

// hostAddress is the address of this host that others can most likely reach: the one from which it reaches the registry. Connecting
// a UDP socket sends nothing; it only has the kernel choose a route.
func hostAddress(towards []string, log *slog.Logger) string {
	for _, address := range towards {
		c, err := net.DialTimeout("udp", address, time.Second)
		if err != nil {
			log.Debug("no route towards the registry", "address", address, "error", err)
			continue
		}
		host, _, err := net.SplitHostPort(c.LocalAddr().String())
		_ = c.Close()
		if err == nil {
			return host
		}
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

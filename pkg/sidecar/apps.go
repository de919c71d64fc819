package sidecar

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
	"github.com/flyproxy/flyproxy/pkg/registrar"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// self are the keys under which this Machine's apps are, or would be, registered.
func (s *Sidecar) self() []registry.Key {
	keys := make([]registry.Key, 0, len(s.cfg.Apps))
	for _, app := range s.cfg.Apps {
		keys = append(keys, registry.Key{Service: app.Service, ID: s.cfg.ID(app)})
	}
	return keys
}

// addRegistrars makes a registrar for each app.
func (s *Sidecar) addRegistrars() error {
	if !s.cfg.Registers() {
		return nil
	}
	if s.cfg.Registry.Store == config.StoreStatic {
		s.log.Info("the registry is a list in the configuration: the app is not registered, it is found if it is in everybody's list")
		return nil
	}
	host := hostAddress(registryAddresses(s.cfg), s.log)
	for _, app := range s.cfg.Apps {
		inst, err := s.instance(app, host)
		if err != nil {
			return fmt.Errorf("app %s: registration.address: %w", app.Name, err)
		}
		r, err := registrar.New(registrar.Config{
			App:      registrar.App{Name: app.Name, Address: app.Address, Service: app.Service},
			Instance: inst, Inbound: registrar.InboundMode(app.Inbound), GRPCServices: app.GRPCServices,
			Health: registrar.HealthConfig{
				Mode: registrar.HealthMode(app.Health.Mode), Service: app.Health.Service, Interval: app.Health.Interval,
				Timeout: app.Health.Timeout, Rise: app.Health.Rise, Fall: app.Health.Fall,
			},
			Beater: s.beater, Logger: s.log,
		})
		if err != nil {
			return err
		}
		s.registrars = append(s.registrars, r)
	}
	return nil
}

// instance is the record of an app, but for what the registrar finds out.
func (s *Sidecar) instance(app config.App, host string) (registry.Instance, error) {
	address, err := s.cfg.AdvertisedAddress(app, host)
	if err != nil {
		return registry.Instance{}, err
	}
	reg := s.cfg.Registration
	labels := make(map[string]string, len(reg.Labels))
	for _, l := range reg.Labels {
		labels[l.Name] = l.Value
	}
	return registry.Instance{
		Service: app.Service, ID: s.cfg.ID(app), Incarnation: s.incarnation,
		App: s.cfg.Fly.App, Region: s.cfg.Region, ProcessGroup: reg.ProcessGroup,
		Address: address, GRPCPort: app.Port(), IsFly: s.cfg.Fly.OnFly,
		Weight: uint32(app.Weight), AppVersion: reg.AppVersion, Labels: labels,
		State: registry.Serving, StartedAt: s.started.UTC().Truncate(time.Millisecond),
	}, nil
}

// AdvertisedAddress is what peers are told to dial for an app: the address that a sidecar with this configuration would register. It may
// look up the registry's name, which takes up to a second.
func AdvertisedAddress(c *config.Config, app config.App) (string, error) {
	return c.AdvertisedAddress(app, hostAddress(registryAddresses(c), slog.New(slog.DiscardHandler)))
}

// registryAddresses are where the registry is, as far as that helps to find our own address.
func registryAddresses(c *config.Config) []string {
	switch c.Registry.Store {
	case config.StoreEmbedded:
		return []string{c.Registry.Embedded.Address}
	case config.StoreStatic:
		var all []string
		for _, in := range c.Registry.Static {
			all = append(all, in.Address)
		}
		return all
	}
	return c.Registry.Redis.Seeds()
}

// load is what every beat reports. Beats are what ends an interval of the call rates.
func (s *Sidecar) load() registry.Load {
	rates := s.metrics.Window().Roll()
	machine := s.machine.Sample()
	return registry.Load{
		InFlight: rates.InFlight, CallsPerSecond: rates.CallsPerSecond, ErrorRate: rates.ErrorRate,
		P50: milliseconds(rates.P50), P99: milliseconds(rates.P99),
		CPU: machine.CPU, Memory: machine.Memory, Connections: s.connections(),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

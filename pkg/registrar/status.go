package registrar

// Status is the state of one app's registration at one moment.
type Status struct {
	App     string
	Service string
	ID      string
	// Address is the advertised one; AppAddress is where the app was last tried locally.
	Address    string
	AppAddress string
	Health     Health
	Inbound    InboundStatus
	// Registration is where the record stands in the registry.
	Registration KeyStatus
	// Held tells whether somebody keeps the app out of the registry (Hold).
	Held bool
	// Reason says why the app is not registered; empty when it is.
	Reason string
}

// Status is put together from immutable snapshots, so it may be asked for at any time and rate.
func (r *Registrar) Status() Status {
	h := r.watcher.Health()
	s := Status{
		App:          r.cfg.App.Name,
		Service:      r.key.Service,
		ID:           r.key.ID,
		Address:      r.cfg.Instance.Address,
		AppAddress:   h.Address,
		Health:       h,
		Inbound:      r.inbound.status(),
		Registration: r.cfg.Beater.Standing(r.key),
		Held:         r.held.Load(),
	}
	if s.Registration.Phase == Registered {
		return s
	}
	s.Reason = *r.reason.Load()
	if s.Reason == "" { // healthy and reachable: it is up to the registry
		s.Reason = "not written to the registry yet"
		if s.Registration.Err != nil {
			s.Reason = "not in the registry: " + s.Registration.Err.Error()
		}
	} else if !h.Healthy && h.Known && s.Reason != "draining" && !s.Held {
		s.Reason = "the app is not healthy: " + h.Detail // more recent
	}
	return s
}

package registrar

import (
	"fmt"
	"log/slog"
	"time"
)

// HealthMode is how the app is asked for its health.
type HealthMode string

// The health modes. HealthAuto tries watch, then check, then tcp, each time the app answers UNIMPLEMENTED to the one before.
const (
	HealthAuto  HealthMode = "auto"
	HealthWatch HealthMode = "watch"
	HealthCheck HealthMode = "check"
	HealthTCP   HealthMode = "tcp"
	HealthNone  HealthMode = "none"
)

// Defaults of a [HealthConfig].
const (
	DefaultHealthInterval = 2 * time.Second
	DefaultHealthTimeout  = time.Second
	DefaultRise           = 1
	DefaultFall           = 3
)

// HealthConfig says how an app's health is judged. Its zero value means the defaults.
type HealthConfig struct {
	Mode HealthMode // "" means HealthAuto
	// Service is asked for in grpc.health.v1; "" asks for the server as a whole.
	Service  string
	Interval time.Duration
	Timeout  time.Duration
	// Rise is how many good observations in a row make the app healthy.
	Rise int
	// Fall is how many indefinite ones (a timeout, an error status) in a row make it unhealthy. A definite one does so at once.
	Fall int
}

func (c HealthConfig) withDefaults() (HealthConfig, error) {
	if c.Mode == "" {
		c.Mode = HealthAuto
	}
	switch c.Mode {
	case HealthAuto, HealthWatch, HealthCheck, HealthTCP, HealthNone:
	default:
		return c, fmt.Errorf("health mode %q: use auto, watch, check, tcp or none", c.Mode)
	}
	if c.Interval <= 0 {
		c.Interval = DefaultHealthInterval
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultHealthTimeout
	}
	if c.Rise <= 0 {
		c.Rise = DefaultRise
	}
	if c.Fall <= 0 {
		c.Fall = DefaultFall
	}
	return c, nil
}

// Health is an app's health at one moment.
type Health struct {
	// Known is false until the first observation that decides.
	Known   bool
	Healthy bool
	// How is the way in which it was found: watch, check, tcp or none; connect while there is no connection.
	How string
	// Detail is the last observation, for people.
	Detail string
	// Since is when Healthy last changed.
	Since time.Time
	// Address is where the app was last tried.
	Address string
}

// State is the word for the health on status pages.
func (h Health) State() string {
	switch {
	case h.Healthy:
		return "healthy"
	case h.Known:
		return "unhealthy"
	}
	return "unknown"
}

// LogValue makes a Health one group of attributes.
func (h Health) LogValue() slog.Value {
	return slog.GroupValue(slog.String("state", h.State()), slog.String("how", h.How), slog.String("detail", h.Detail))
}

// verdict is what one observation says.
type verdict uint8

const (
	good   verdict = iota + 1
	bad            // a definite no
	unsure         // no answer, or one that does not tell
)

// tally turns observations into health by the rise and fall counts.
type tally struct {
	rise, fall int

	known, healthy bool
	goods, unsures int
}

// add counts v and tells whether the health changed or became known.
func (t *tally) add(v verdict) bool {
	known, healthy := t.known, t.healthy
	switch v {
	case good:
		t.goods, t.unsures = t.goods+1, 0
		if t.goods >= t.rise {
			t.known, t.healthy = true, true
		}
	case bad:
		t.goods, t.unsures = 0, 0
		t.known, t.healthy = true, false
	case unsure:
		t.goods, t.unsures = 0, t.unsures+1
		if t.unsures >= t.fall {
			t.known, t.healthy = true, false
		}
	}
	return t.known != known || t.healthy != healthy
}

// Package admin is the HTTP listener for operators and for Prometheus: health, readiness, the cluster as this sidecar sees it,
// and metrics. All that reads, and changes nothing. What changes something is asked for on a unix socket: see [Control].
//
// The package also has the other side: [FetchStatus] asks a running flyproxy, and [RenderStatus] shows the answer to people. Both
// sides share the types of the answer.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// DefaultStatusTimeout bounds how long a status may take to be gathered.
const DefaultStatusTimeout = 3 * time.Second

// Config is what a Server is made of.
type Config struct {
	// Listener is what Serve accepts on; Close closes it. It may be nil when only Handler is used.
	Listener net.Listener
	// Status gathers the status. It may read from the registry, so it gets a context that ends after StatusTimeout; what it could
	// not read by then it leaves out and names in the status' LoadsError. The server fills in Readiness.
	Status func(context.Context) Status
	// StatusTimeout bounds Status; 0 means [DefaultStatusTimeout].
	StatusTimeout time.Duration
	// Ready tells whether calls can be taken. It must not block.
	Ready func() Readiness
	// Metrics answers /metrics.
	Metrics http.Handler
	// Logger may be nil.
	Logger *slog.Logger
}

// Server answers over HTTP. All methods may be called concurrently.
type Server struct {
	*listening
	cfg Config
}

// New makes a Server; it starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Status == nil || cfg.Ready == nil || cfg.Metrics == nil {
		return nil, errors.New("admin: Status, Ready and Metrics must all be set")
	}
	if cfg.StatusTimeout <= 0 {
		cfg.StatusTimeout = DefaultStatusTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg}
	s.listening = newListening(cfg.Listener, s.Handler(), cfg.Logger)
	return s, nil
}

// Package admin is the HTTP listener for operators and for Prometheus: health, readiness, the cluster as this sidecar sees it,
// and metrics. Everything here reads; nothing changes anything.
//
// The package also has the other side: [FetchStatus] asks a running flyproxy, and [RenderStatus] shows the answer to people. Both
// sides share the types of the answer.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits of the HTTP server. What is answered is small, but a page of metrics may go to a slow reader.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute // longer than the usual time between two scrapes, 15 to 60 s
	maxHeaderBytes    = 16 << 10
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
	cfg  Config
	http *http.Server

	closing   sync.Once
	closedErr error
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
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Serve accepts until Close, and returns nil then. Any other error means that the listener failed.
func (s *Server) Serve() error {
	if s.cfg.Listener == nil {
		return errors.New("admin: there is no listener to serve on")
	}
	if err := s.http.Serve(s.cfg.Listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin on %s: %w", s.cfg.Listener.Addr(), err)
	}
	return nil
}

// Close stops accepting, lets open requests end until ctx does, and then cuts them off, which is the error it returns. The first
// call counts; further ones wait for it and return the same.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closedErr = s.close(ctx) })
	return s.closedErr
}

func (s *Server) close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		// A request whose connection is closed learns of it by its context.
		err = fmt.Errorf("close admin: requests were cut off: %w", errors.Join(err, s.http.Close()))
	}
	// The HTTP server closes the listener only if Serve was called.
	if l := s.cfg.Listener; l != nil {
		if e := l.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, fmt.Errorf("close admin listener: %w", e))
		}
	}
	return err
}

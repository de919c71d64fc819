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

// listening is an HTTP server and its one listener, which may be nil when only the handler is used.
type listening struct {
	listener net.Listener
	http     *http.Server

	closing   sync.Once
	closedErr error
}

func newListening(listener net.Listener, handler http.Handler, log *slog.Logger) *listening {
	return &listening{listener: listener, http: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// Serve accepts until Close, and returns nil then. Any other error means that the listener failed.
func (s *listening) Serve() error {
	if s.listener == nil {
		return errors.New("admin: there is no listener to serve on")
	}
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin on %s: %w", s.listener.Addr(), err)
	}
	return nil
}

// Close stops accepting, lets open requests end until ctx does, and then cuts them off, which is the error it returns. The first
// call counts; further ones wait for it and return the same.
func (s *listening) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closedErr = s.close(ctx) })
	return s.closedErr
}

func (s *listening) close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		// A request whose connection is closed learns of it by its context.
		err = fmt.Errorf("close admin: requests were cut off: %w", errors.Join(err, s.http.Close()))
	}
	// The HTTP server closes the listener only if Serve was called.
	if l := s.listener; l != nil {
		if e := l.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, fmt.Errorf("close admin listener: %w", e))
		}
	}
	return err
}

// Package api is the sidecar's own gRPC service, flyproxy.v1.Discovery: which instances are known, and how that changes.
//
// It answers from the view in memory and never waits for the registry.
package api

import (
	"context"
	"log/slog"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
	"github.com/flyproxy/flyproxy/pkg/registry"
)

// Views is where the service takes its answers from. Both methods may be called concurrently.
type Views interface {
	// View is the view in force, never nil.
	View() *registry.View
	// Subscribe gives a channel that receives after the view has changed; several changes may be told once. cancel ends it.
	Subscribe() (changed <-chan struct{}, cancel func())
}

// Config is what a Server is made of.
type Config struct {
	Views Views
	// Service is the sidecar's own service, for requests that name none. A gateway has none.
	Service string
	// Self are the instances that this sidecar registers.
	Self []registry.Key
	// Logger may be nil.
	Logger *slog.Logger
}

// Server answers flyproxy.v1.Discovery.
type Server struct {
	flyproxyv1.UnimplementedDiscoveryServer

	views   Views
	service string
	self    map[registry.Key]bool
	log     *slog.Logger

	closeOnce sync.Once
	closed    chan struct{}
}

// New makes a Server.
func New(cfg Config) *Server {
	s := &Server{
		views:   cfg.Views,
		service: cfg.Service,
		self:    make(map[registry.Key]bool, len(cfg.Self)),
		log:     cfg.Logger,
		closed:  make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, k := range cfg.Self {
		s.self[k] = true
	}
	return s
}

// Register adds the service to a gRPC server that does not serve yet.
func (s *Server) Register(r grpc.ServiceRegistrar) { flyproxyv1.RegisterDiscoveryServer(r, s) }

// Close ends every watch with UNAVAILABLE and refuses new ones, so that a graceful stop of the gRPC server need not wait for
// watchers. It does not wait for them itself: a reader that takes nothing from its stream is ended by the gRPC server's Stop.
// It may be called more than once.
func (s *Server) Close() { s.closeOnce.Do(func() { close(s.closed) }) }

// ListInstances implements flyproxyv1.DiscoveryServer.
func (s *Server) ListInstances(_ context.Context, r *flyproxyv1.ListInstancesRequest) (*flyproxyv1.ListInstancesResponse, error) {
	want, err := s.filter(r.GetService(), r.GetRegion())
	if err != nil {
		return nil, err
	}
	v := s.views.View()
	entries := want.entries(v)
	answer := &flyproxyv1.ListInstancesResponse{
		Instances: make([]*flyproxyv1.Instance, 0, len(entries)),
		Version:   v.Version,
		Source:    source(v.Source),
	}
	for _, e := range entries {
		answer.Instances = append(answer.Instances, s.instance(e))
	}
	return answer, nil
}

// WatchInstances implements flyproxyv1.DiscoveryServer.
func (s *Server) WatchInstances(r *flyproxyv1.WatchInstancesRequest,
	stream grpc.ServerStreamingServer[flyproxyv1.WatchInstancesResponse],
) error {
	want, err := s.filter(r.GetService(), r.GetRegion())
	if err != nil {
		return err
	}
	changed, cancel := s.views.Subscribe()
	defer cancel()
	w := watch{server: s, want: want, send: stream.Send}
	for {
		// A sidecar that shuts down says so even if the view changed at the same moment.
		select {
		case <-s.closed:
			return errClosed
		default:
		}
		if err := w.tell(s.views.View()); err != nil {
			s.log.Debug("a watcher went away", "error", err)
			return err
		}
		select {
		case <-s.closed:
			return errClosed
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-changed:
		}
	}
}

var (
	errClosed    = status.Error(codes.Unavailable, "flyproxy is shutting down; watch again after a short wait")
	errNoService = status.Error(codes.InvalidArgument,
		`this flyproxy has no service of its own: set "service" in the request to the one that is wanted, or to "*" for all`)
)

// filter makes the filter of a request, or a status that says what is wrong with it.
func (s *Server) filter(service, region string) (filter, error) {
	switch service {
	case "*":
		return filter{region: region}, nil
	case "":
		if s.service == "" {
			return filter{}, errNoService
		}
		service = s.service
	}
	return filter{service: service, region: region}, nil
}

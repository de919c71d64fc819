package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
)

// App is the demo's gRPC app: the Greeter, with health and reflection, as any app has them. It knows nothing of flyproxy.
type App struct {
	pb.UnimplementedGreeterServer
	// Instance and Region are what its answers say.
	Instance, Region string

	server *grpc.Server
	health *health.Server
}

// NewApp makes an app that says who it is in its answers.
func NewApp(instance, region string) *App {
	a := &App{Instance: instance, Region: region, server: grpc.NewServer(), health: health.NewServer()}
	pb.RegisterGreeterServer(a.server, a)
	grpc_health_v1.RegisterHealthServer(a.server, a.health)
	reflection.Register(a.server)
	return a
}

// Serve answers calls on lis until Stop or Drain. It returns nil then.
func (a *App) Serve(lis net.Listener) error { return a.server.Serve(lis) }

// Stop cuts all connections at once, as a crash would.
func (a *App) Stop() { a.server.Stop() }

// Drain lets the calls that are open end, and takes no new ones.
func (a *App) Drain() { a.server.GracefulStop() }

// SetServing changes what the health service says.
func (a *App) SetServing(serving bool) {
	s := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		s = grpc_health_v1.HealthCheckResponse_SERVING
	}
	a.health.SetServingStatus("", s)
}

// Hello greets once.
func (a *App) Hello(_ context.Context, req *pb.HelloRequest) (*pb.HelloReply, error) {
	return a.reply(req.GetName(), 1), nil
}

// Count sends numbered replies.
func (a *App) Count(req *pb.CountRequest, stream grpc.ServerStreamingServer[pb.HelloReply]) error {
	if req.GetTimes() > 1000 {
		return status.Errorf(codes.InvalidArgument, "times is %d: 1000 at most", req.GetTimes())
	}
	pause := time.NewTicker(max(time.Duration(req.GetPauseMs())*time.Millisecond, time.Microsecond))
	defer pause.Stop()
	for n := uint32(1); n <= req.GetTimes(); n++ {
		if n > 1 && req.GetPauseMs() > 0 {
			select {
			case <-pause.C:
			case <-stream.Context().Done():
				return status.FromContextError(stream.Context().Err()).Err()
			}
		}
		if err := stream.Send(a.reply(req.GetName(), n)); err != nil {
			return err
		}
	}
	return nil
}

// Chat answers each message as it comes.
func (a *App) Chat(stream grpc.BidiStreamingServer[pb.HelloRequest, pb.HelloReply]) error {
	for n := uint32(1); ; n++ {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(a.reply(req.GetName(), n)); err != nil {
			return err
		}
	}
}

func (a *App) reply(name string, number uint32) *pb.HelloReply {
	if name == "" {
		name = "world"
	}
	return &pb.HelloReply{Greeting: fmt.Sprintf("Hello, %s!", name), Instance: a.Instance, Region: a.Region, Number: number}
}

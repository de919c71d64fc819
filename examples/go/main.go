// Command go is an example of an app behind flyproxy: a small battle server, as anybody would write it in Go. All that it knows of
// flyproxy is an address on localhost (client.go); registration, health and routing are the sidecar's.
//
// It reads GRPC_BIND_ADDRESS (0.0.0.0), GRPC_PORT (50051), PORT (8080), FLYPROXY_ADDR (localhost:50052), and who it is from
// FLY_MACHINE_ID and FLY_REGION, which Fly sets.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	pb "github.com/flyproxy/flyproxy/examples/go/battlev1"
)

// stopWithin bounds how long open calls may hold up the end. It is less than flyproxy's run.stop_timeout (2.5 s).
const stopWithin = 2 * time.Second

func main() {
	stopping, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if err := run(stopping); err != nil {
		slog.Error("the app failed", "error", err)
		os.Exit(1)
	}
	slog.Info("ended")
}

// run serves until stopping is done, then ends gracefully.
func run(stopping context.Context) error {
	grpcListener, err := net.Listen("tcp", net.JoinHostPort(env("GRPC_BIND_ADDRESS", "0.0.0.0"), env("GRPC_PORT", "50051")))
	if err != nil {
		return err
	}
	defer func() { _ = grpcListener.Close() }()
	httpListener, err := net.Listen("tcp", ":"+env("PORT", "8080"))
	if err != nil {
		return err
	}
	defer func() { _ = httpListener.Close() }()
	rpc, err := NewBattleRPCClient(env("FLYPROXY_ADDR", "localhost:50052"))
	if err != nil {
		return err
	}
	defer func() { _ = rpc.Close() }()

	battles := newBattles(instance(), env("FLY_REGION", env("FLYPROXY_REGION", "local")))
	server, healthy := grpc.NewServer(), health.NewServer()
	pb.RegisterBattleServiceServer(server, &service{battles: battles, stopping: stopping.Done()})
	grpc_health_v1.RegisterHealthServer(server, healthy)
	reflection.Register(server)
	web := &http.Server{Handler: pages(rpc), ReadHeaderTimeout: 5 * time.Second}

	failed := make(chan error, 2)
	go func() { failed <- server.Serve(grpcListener) }()
	go func() { failed <- web.Serve(httpListener) }()
	slog.Info("serving", "grpc", grpcListener.Addr().String(), "http", httpListener.Addr().String(),
		"instance", battles.instance, "region", battles.region)
	select {
	case err := <-failed:
		return err
	case <-stopping.Done():
	}
	return stop(server, healthy, web)
}

// stop tells the sidecar by the health service that there is nothing to be had here any more, and lets open calls end.
func stop(server *grpc.Server, healthy *health.Server, web *http.Server) error {
	slog.Info("stopping", "within", stopWithin)
	healthy.Shutdown() // NOT_SERVING
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	defer context.AfterFunc(ctx, server.Stop)()
	err := web.Shutdown(ctx)
	server.GracefulStop() // returns early when Stop cuts what is left
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		slog.Warn("some calls were still open and were cut", "after", stopWithin)
		return nil
	}
	return err
}

// instance is what answers call this process: the Machine's id on Fly.
func instance() string {
	host, _ := os.Hostname()
	return env("FLY_MACHINE_ID", env("FLYPROXY_INSTANCE_ID", host))
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// Command app is the demo's gRPC app as a process of its own, and a client for it, for tests that need them in another network
// namespace:
//
//	app serve <host:port> <instance> <region>
//	app call <target> <times>      prints the instance that answered, a line each
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flyproxy/flyproxy/pkg/demo"
	pb "github.com/flyproxy/flyproxy/pkg/demo/greeterv1"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 4 && args[0] == "serve":
		err = serve(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "call":
		err = call(args[1], args[2])
	default:
		fmt.Fprintln(os.Stderr, "usage: app serve <host:port> <instance> <region> | app call <target> <times>")
		os.Exit(64)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve ends in good order on SIGTERM and SIGINT, as an app should.
func serve(address, instance, region string) error {
	network := "tcp"
	if host, _, _ := net.SplitHostPort(address); host == "0.0.0.0" {
		network = "tcp4" // as other languages take it; with tcp, Go binds [::]
	}
	lis, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	app := demo.NewApp(instance, region)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	drained := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(drained)
		app.Drain()
	})
	if err := app.Serve(lis); err != nil || ctx.Err() == nil {
		return err
	}
	<-drained
	fmt.Println("app: ended in good order")
	return nil
}

func call(target, times string) error {
	n, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = cc.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for range n {
		reply, err := pb.NewGreeterClient(cc).Hello(ctx, &pb.HelloRequest{Name: "namespace"})
		if err != nil {
			return err
		}
		fmt.Println(reply.GetInstance())
	}
	return nil
}

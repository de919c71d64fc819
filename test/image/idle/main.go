// Command idle holds many streams of the sample app open through a sidecar:
//
//	idle <target> <streams>
//
// It prints "open" once each has had a message there and back. When its standard input ends, each has another, and it prints "answered". It
// is a program of its own because the race detector, with which the tests run, bounds the goroutines of a process below what it needs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/flyproxy/flyproxy/examples/go/battlev1"
)

// connections are what the streams are spread over; each of them has some exchanges under way at a time.
const (
	connections = 10
	atATime     = 10
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: idle <target> <streams>")
		os.Exit(64)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, target, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var clients [connections]pb.BattleServiceClient
	for i := range clients {
		cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer func() { _ = cc.Close() }()
		clients[i] = pb.NewBattleServiceClient(cc)
	}
	// The battle that they all play.
	if _, err := clients[0].JoinBattle(ctx, &pb.JoinBattleRequest{Player: "idle"}, grpc.WaitForReady(true)); err != nil {
		return err
	}
	streams := make([]pb.BattleService_PlayClient, n)
	if err := each(n, func(i int) (err error) {
		if streams[i], err = clients[i%connections].Play(ctx); err != nil {
			return err
		}
		return exchange(streams[i])
	}); err != nil {
		return err
	}
	fmt.Println("open")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	if err := each(n, func(i int) error { return exchange(streams[i]) }); err != nil {
		return err
	}
	fmt.Println("answered")
	return nil
}

func exchange(stream pb.BattleService_PlayClient) error {
	if err := stream.Send(&pb.Move{BattleId: "arena", Player: "idle", Action: "wait"}); err != nil && !errors.Is(err, io.EOF) {
		return err
	} // after EOF, Recv says why
	_, err := stream.Recv()
	return err
}

// each does it for 0 to n-1, and says how many failed and how the first did.
func each(n int, do func(i int) error) error {
	var mu sync.Mutex // guards what follows
	var failed int
	var first error
	var running sync.WaitGroup
	for w := range connections * atATime {
		running.Go(func() {
			for i := w; i < n; i += connections * atATime {
				if err := do(i); err != nil {
					mu.Lock()
					if failed++; first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	if failed > 0 {
		return fmt.Errorf("%d of %d streams failed, the first: %w", failed, n, first)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// pool is the client's connections.
type pool []*grpc.ClientConn

// dial opens n connections to targets. With several targets, which only the client without a proxy has, each connection balances
// its calls among them as an app's own client would: round robin.
func dial(n int, targets []string) (pool, error) {
	all := make(pool, 0, n)
	for range n {
		options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
		target := "passthrough:///" + targets[0]
		if len(targets) > 1 {
			list := manual.NewBuilderWithScheme("bench")
			var state resolver.State
			for _, t := range targets {
				state.Addresses = append(state.Addresses, resolver.Address{Addr: t})
			}
			list.InitialState(state)
			options = append(options, grpc.WithResolvers(list),
				grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
			target = "bench:///peers"
		}
		cc, err := grpc.NewClient(target, options...)
		if err != nil {
			all.close()
			return nil, err
		}
		all = append(all, cc)
	}
	return all, nil
}

func (p pool) close() {
	for _, cc := range p {
		_ = cc.Close() // an error would say only that it is closed already
	}
}

// caller makes one call, or one message's way there and back, at a time.
type caller interface {
	call(ctx context.Context) error
	// end finishes what call left open.
	end() error
}

// unary calls Echo.
type unary struct {
	cc      *grpc.ClientConn
	request *message
	reply   message
}

func (u *unary) call(ctx context.Context) error {
	if err := u.cc.Invoke(ctx, echoMethod, u.request, &u.reply); err != nil {
		return err
	}
	return sameSize(u.request, &u.reply)
}

func (u *unary) end() error { return nil }

// pingPong sends a message on its stream and waits for it to come back.
type pingPong struct {
	stream grpc.ClientStream
	ping   *message
	pong   message
}

// openPingPong opens the stream; ctx ends it.
func openPingPong(ctx context.Context, cc *grpc.ClientConn, ping *message) (*pingPong, error) {
	stream, err := cc.NewStream(ctx, &chatDesc, chatMethod)
	if err != nil {
		return nil, err
	}
	return &pingPong{stream: stream, ping: ping}, nil
}

func (p *pingPong) call(context.Context) error {
	if err := p.stream.SendMsg(p.ping); err != nil {
		if errors.Is(err, io.EOF) {
			return p.stream.RecvMsg(&p.pong) // io.EOF means that the stream is over; RecvMsg knows why
		}
		return err
	}
	if err := p.stream.RecvMsg(&p.pong); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return sameSize(p.ping, &p.pong)
}

func (p *pingPong) end() error {
	if err := p.stream.CloseSend(); err != nil {
		return err
	}
	if err := p.stream.RecvMsg(&p.pong); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream's end: %w", errOr(err, "a message too many"))
	}
	return nil
}

// openFeed asks for a stream of so many bytes.
func openFeed(ctx context.Context, cc *grpc.ClientConn, bytes int64) (grpc.ClientStream, error) {
	stream, err := cc.NewStream(ctx, &feedDesc, feedMethod)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(&message{Value: strconv.AppendInt(nil, bytes, 10)}); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}

func sameSize(sent, got *message) error {
	if len(sent.GetValue()) != len(got.GetValue()) {
		return fmt.Errorf("sent %d bytes, %d came back", len(sent.GetValue()), len(got.GetValue()))
	}
	return nil
}

func errOr(err error, words string) error {
	if err != nil {
		return err
	}
	return errors.New(words)
}

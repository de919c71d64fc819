package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The service that peers offer. It is written out here, without a proto file, on messages that protobuf ships: BytesValue in and
// out, so client and server pay for protobuf as an app does.
const (
	echoMethod = "/flyproxy.bench.Peer/Echo" // unary: what came
	chatMethod = "/flyproxy.bench.Peer/Chat" // bidirectional: each message as it comes
	feedMethod = "/flyproxy.bench.Peer/Feed" // server streaming: as many bytes as the request says, in decimal
)

// feedMessage is the size of Feed's messages in bytes.
const feedMessage = 64 << 10

type message = wrapperspb.BytesValue

var (
	chatDesc = grpc.StreamDesc{StreamName: "Chat", Handler: chat, ServerStreams: true, ClientStreams: true}
	feedDesc = grpc.StreamDesc{StreamName: "Feed", Handler: feed, ServerStreams: true}
	peerDesc = grpc.ServiceDesc{
		ServiceName: "flyproxy.bench.Peer",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Echo", Handler: echo}},
		Streams:     []grpc.StreamDesc{chatDesc, feedDesc},
	}
)

func echo(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	m := new(message)
	if err := decode(m); err != nil {
		return nil, err
	}
	return m, nil
}

func chat(_ any, stream grpc.ServerStream) error {
	m := new(message)
	for {
		err := stream.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
}

func feed(_ any, stream grpc.ServerStream) error {
	var m message
	if err := stream.RecvMsg(&m); err != nil {
		return err
	}
	left, err := strconv.ParseInt(string(m.GetValue()), 10, 64)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	full := &message{Value: make([]byte, feedMessage)}
	for ; left > 0; left -= feedMessage {
		out := full
		if left < feedMessage {
			out = &message{Value: make([]byte, left)}
		}
		if err := stream.SendMsg(out); err != nil {
			return err
		}
	}
	return nil
}

// peerArg is the argument that makes this program a peer instead of the benchmark. A peer is a process of its own so that neither
// its memory nor its collector is the load generator's.
const peerArg = "peer"

// servePeer says where it listens and serves until standard input ends, as it does when the benchmark dies.
func servePeer() error {
	lis, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(&peerDesc, nil)
	go stopAtEOF(server)
	fmt.Println(lis.Addr())
	return server.Serve(lis)
}

// stopAtEOF ends with the process, whose only purpose is to serve until then.
func stopAtEOF(server *grpc.Server) {
	_, _ = io.Copy(io.Discard, os.Stdin)
	server.Stop()
}

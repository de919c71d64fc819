package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/flyproxy/flyproxy/examples/go/battlev1"
)

// service is the gRPC side of the battles.
type service struct {
	pb.UnimplementedBattleServiceServer
	battles  *battles
	stopping <-chan struct{} // closed when the app is to end
}

func (s *service) JoinBattle(_ context.Context, req *pb.JoinBattleRequest) (*pb.Battle, error) {
	return s.battles.join(req.GetBattleId(), req.GetPlayer())
}

// WatchBattle ends with the battle, or when the app stops: a stream that may last for hours does not hold up a deploy.
func (s *service) WatchBattle(req *pb.WatchBattleRequest, stream grpc.ServerStreamingServer[pb.BattleEvent]) error {
	event, moves, leave, err := s.battles.watch(req.GetBattleId())
	if err != nil {
		return err
	}
	defer leave()
	for {
		if err := stream.Send(event); err != nil {
			return err
		}
		select {
		case next, open := <-moves:
			if open {
				event = next
				continue
			}
			if event.GetAction() == "finish" {
				return nil
			}
			return status.Error(codes.ResourceExhausted, "the watch fell too far behind: begin anew")
		case <-s.stopping:
			return status.Error(codes.Unavailable, "this instance stops: join again")
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

// Play answers each move.
func (s *service) Play(stream grpc.BidiStreamingServer[pb.Move, pb.BattleEvent]) error {
	for {
		move, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		event, err := s.battles.move(move)
		if err != nil {
			return err
		}
		if err := stream.Send(event); err != nil {
			return err
		}
	}
}

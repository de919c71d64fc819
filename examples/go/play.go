package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	pb "github.com/flyproxy/flyproxy/examples/go/battlev1"
)

// playWhole joins a new battle, watches it by one stream and plays it by another. The client must be bound to one instance: the
// battle is there and nowhere else.
func playWhole(ctx context.Context, client pb.BattleServiceClient) (map[string][]json.RawMessage, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	battle, err := client.JoinBattle(ctx, &pb.JoinBattleRequest{BattleId: fmt.Sprintf("curl-%x", rand.Uint64()), Player: "curl"})
	if err != nil {
		return nil, err
	}
	watch, err := client.WatchBattle(ctx, &pb.WatchBattleRequest{BattleId: battle.GetBattleId()})
	if err != nil {
		return nil, err
	}
	first, err := watch.Recv() // only then is it watched for certain
	if err != nil {
		return nil, err
	}
	played, err := playMoves(ctx, client, battle.GetBattleId(), "attack", "defend", "finish")
	if err != nil {
		return nil, err
	}
	watched, err := collect(watch)
	if err != nil {
		return nil, err
	}
	state, err := asJSON(first)
	if err != nil {
		return nil, err
	}
	return map[string][]json.RawMessage{"played": played, "watched": append([]json.RawMessage{state}, watched...)}, nil
}

// playMoves makes one move after the other, each once the one before is answered.
func playMoves(ctx context.Context, client pb.BattleServiceClient, battle string, actions ...string) ([]json.RawMessage, error) {
	play, err := client.Play(ctx)
	if err != nil {
		return nil, err
	}
	var answers []json.RawMessage
	for _, action := range actions {
		err := play.Send(&pb.Move{BattleId: battle, Player: "curl", Action: action})
		if err != nil && !errors.Is(err, io.EOF) { // after EOF, Recv says why
			return nil, err
		}
		event, err := play.Recv()
		if err != nil {
			return nil, err
		}
		answer, err := asJSON(event)
		if err != nil {
			return nil, err
		}
		answers = append(answers, answer)
	}
	if err := play.CloseSend(); err != nil {
		return nil, err
	}
	rest, err := collect(play)
	return append(answers, rest...), err
}

// collect reads a stream to its end.
func collect(stream interface {
	Recv() (*pb.BattleEvent, error)
}) ([]json.RawMessage, error) {
	var all []json.RawMessage
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		m, err := asJSON(event)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
}

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/flyproxy/flyproxy/examples/go/battlev1"
)

// What a client of a battle can get wrong, and what an instance holds at most: both languages say the same.
func TestExamplesRefuse(t *testing.T) {
	for lang, argv := range exampleApps(t) {
		t.Run(lang, func(t *testing.T) {
			port, page := freePort(t), freePort(t)
			start(t, lang, []string{fmt.Sprint("GRPC_PORT=", port), fmt.Sprint("PORT=", page), "FLY_MACHINE_ID=m0"}, argv...)
			eventually(t, "its pages", func() bool {
				code, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/", page))
				return code == http.StatusOK
			})
			refusals(t, pb.NewBattleServiceClient(dial(t, fmt.Sprintf("127.0.0.1:%d", port))))
		})
	}
}

func refusals(t *testing.T, client pb.BattleServiceClient) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	refused := func(what string, err error, code codes.Code, words string) {
		t.Helper()
		if status.Code(err) != code || !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("%s: %v, want %v that says %q", what, err, code, words)
		}
	}
	join := func(battle, player string) error {
		_, err := client.JoinBattle(ctx, &pb.JoinBattleRequest{BattleId: battle, Player: player})
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	refused("nobody joins", join("", ""), codes.InvalidArgument, "player is empty")
	watch, err := client.WatchBattle(ctx, &pb.WatchBattleRequest{BattleId: "elsewhere"})
	must(err)
	_, err = watch.Recv()
	refused("a watch of what is elsewhere", err, codes.NotFound, `battle "elsewhere" is not on m0`)
	play, err := client.Play(ctx)
	must(err)
	must(play.Send(&pb.Move{BattleId: "elsewhere"}))
	_, err = play.Recv()
	refused("a move in what is elsewhere", err, codes.NotFound, `battle "elsewhere" is not on m0`)

	for n := range 100 {
		must(join("crowd", fmt.Sprint("player ", n)))
	}
	must(join("crowd", "player 0"))
	refused("a player too many", join("crowd", "one more"), codes.ResourceExhausted, `battle "crowd" has 100 players`)
	slowWatch(t, ctx, client)
	for n := range 1000 - 1 {
		must(join(fmt.Sprint("battle ", n), "player"))
	}
	refused("a battle too many", join("one more", "player"), codes.ResourceExhausted, "m0 has 1000 battles")
}

// slowWatch does not read while more is played than fits into windows and queues: it is ended, and the others are not held up.
func slowWatch(t *testing.T, ctx context.Context, client pb.BattleServiceClient) {
	watch, err := client.WatchBattle(ctx, &pb.WatchBattleRequest{BattleId: "crowd"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	play, err := client.Play(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const moves = 500
	for range moves {
		if err := play.Send(&pb.Move{BattleId: "crowd", Player: "player 0", Action: strings.Repeat("!", 16<<10)}); err != nil {
			t.Fatal(err)
		}
		if _, err := play.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for {
		if _, err = watch.Recv(); err != nil {
			break
		}
		seen++
	}
	if errors.Is(err, io.EOF) || status.Code(err) != codes.ResourceExhausted || seen >= moves {
		t.Errorf("a watch that did not read saw %d of %d moves and ended with %v", seen, moves, err)
	}
}

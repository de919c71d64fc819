package main

import (
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/flyproxy/flyproxy/examples/go/battlev1"
)

// What one instance holds at most.
const (
	maxBattles = 1000
	maxPlayers = 100
)

// battles are those of this instance. All methods may be called concurrently.
type battles struct {
	instance, region string

	mu   sync.Mutex // guards what follows, and the battles themselves
	byID map[string]*battle
}

type battle struct {
	players  []string
	moves    uint32
	watchers map[chan *pb.BattleEvent]bool
}

func newBattles(instance, region string) *battles {
	return &battles{instance: instance, region: region, byID: make(map[string]*battle)}
}

// join enters a player, beginning the battle if it is not there.
func (b *battles) join(id, player string) (*pb.Battle, error) {
	if id == "" {
		id = "arena"
	}
	if player == "" {
		return nil, status.Error(codes.InvalidArgument, "player is empty")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.byID[id]
	if at == nil {
		if len(b.byID) == maxBattles {
			return nil, status.Errorf(codes.ResourceExhausted, "%s has %d battles: finish one", b.instance, maxBattles)
		}
		at = &battle{watchers: make(map[chan *pb.BattleEvent]bool)}
		b.byID[id] = at
	}
	if !slices.Contains(at.players, player) {
		if len(at.players) == maxPlayers {
			return nil, status.Errorf(codes.ResourceExhausted, "battle %q has %d players", id, maxPlayers)
		}
		at.players = append(at.players, player)
	}
	return &pb.Battle{BattleId: id, Players: slices.Clone(at.players), Moves: at.moves, InstanceId: b.instance, Region: b.region}, nil
}

// move makes a move and tells the watchers. "finish" ends the battle: it is forgotten, and its watchers' channels are closed.
func (b *battles) move(m *pb.Move) (*pb.BattleEvent, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, err := b.findLocked(m.GetBattleId())
	if err != nil {
		return nil, err
	}
	at.moves++
	event := b.event(m.GetBattleId(), at.moves, m.GetPlayer(), m.GetAction())
	for w := range at.watchers {
		select {
		case w <- event:
		default: // it is not reading: its channel is closed without a "finish"
			delete(at.watchers, w)
			close(w)
		}
	}
	if m.GetAction() == "finish" {
		delete(b.byID, m.GetBattleId())
		for w := range at.watchers {
			close(w)
		}
		clear(at.watchers)
	}
	return event, nil
}

// watch gives the state of a battle, and the moves from then on until leave is called.
func (b *battles) watch(id string) (now *pb.BattleEvent, moves <-chan *pb.BattleEvent, leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, err := b.findLocked(id)
	if err != nil {
		return nil, nil, nil, err
	}
	w := make(chan *pb.BattleEvent, 64)
	at.watchers[w] = true
	leave = func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(at.watchers, w)
	}
	return b.event(id, 0, "", "watching"), w, leave, nil
}

func (b *battles) findLocked(id string) (*battle, error) {
	if at := b.byID[id]; at != nil {
		return at, nil
	}
	return nil, status.Errorf(codes.NotFound, "battle %q is not on %s: call the instance that answered JoinBattle", id, b.instance)
}

func (b *battles) event(id string, number uint32, player, action string) *pb.BattleEvent {
	return &pb.BattleEvent{BattleId: id, Number: number, Player: player, Action: action, InstanceId: b.instance, Region: b.region}
}

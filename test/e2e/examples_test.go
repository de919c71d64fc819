package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/flyproxy/flyproxy/examples/go/battlev1"
	"github.com/flyproxy/flyproxy/pkg/api/flyproxyv1"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// Both examples, two of each, as one service behind four sidecars. The apps know a port of their own and where the sidecar is.
func TestExamples(t *testing.T) { eachEngine(t, examples) }

func examples(t *testing.T, engine string) {
	apps := exampleApps(t)
	redis := redistest.Start(t, redistest.Config{})
	var all []*fighter
	var sidecars []*sidecar
	for i, lang := range []string{"go", "node", "go", "node"} {
		f := startFighter(t, fmt.Sprint(lang, i), apps[lang], engine, "REDIS_URL=redis://"+redis.Addr())
		all, sidecars = append(all, f), append(sidecars, f.sidecar)
	}
	sees(t, len(all), sidecars...)
	for _, f := range all {
		// A sidecar may have found its app before the app's pages were there.
		eventually(t, "the pages of "+f.id, func() bool { code, _ := get(t, f.http+"/"); return code == http.StatusOK })
	}

	t.Run("registered with what it serves", func(t *testing.T) { registeredByReflection(t, all) })
	t.Run("optimal", func(t *testing.T) {
		for _, f := range all {
			var got answer
			f.page("/battle", &got)
			if got.Instance == f.id || got.Instance == "" || got.Region != "ams" {
				t.Errorf("%s was answered by %+v, want another instance", f.id, got)
			}
		}
	})
	t.Run("by instance id", func(t *testing.T) { byInstanceID(t, all) })
	t.Run("all", func(t *testing.T) { allInstances(t, all) })
	t.Run("streams", func(t *testing.T) { battlesAcross(t, all) })
	t.Run("each is stopped under load", func(t *testing.T) { stoppedUnderLoad(t, all, sidecars) })
	t.Run("open streams when it stops", func(t *testing.T) { streamsWhenItStops(t, all) })
}

// A rolling deploy of both examples as their images run them: flyproxy is the parent of the app, and gets the signal.
func TestExamplesRunByFlyproxy(t *testing.T) { eachEngine(t, examplesRunByFlyproxy) }

func examplesRunByFlyproxy(t *testing.T, engine string) {
	apps := exampleApps(t)
	redis := redistest.Start(t, redistest.Config{})
	var all []*fighter
	var sidecars []*sidecar
	for i, lang := range []string{"go", "node", "go", "node"} {
		f := startMachine(t, fmt.Sprint(lang, i), apps[lang], engine, "REDIS_URL=redis://"+redis.Addr())
		all, sidecars = append(all, f), append(sidecars, f.sidecar)
	}
	sees(t, len(all), sidecars...)
	for _, f := range all {
		eventually(t, "the pages of "+f.id, func() bool { code, _ := get(t, f.http+"/"); return code == http.StatusOK })
	}
	battlesAcross(t, all)
	stoppedUnderLoad(t, all, sidecars)
}

func registeredByReflection(t *testing.T, all []*fighter) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := flyproxyv1.NewDiscoveryClient(all[0].sidecar.dial(t)).ListInstances(ctx, &flyproxyv1.ListInstancesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range list.GetInstances() {
		if !slices.Contains(in.GetGrpcServices(), "battle.v1.BattleService") {
			t.Errorf("%s is registered with %v", in.GetId(), in.GetGrpcServices())
		}
	}
}

func byInstanceID(t *testing.T, all []*fighter) {
	for _, from := range all {
		for _, to := range all {
			var got answer
			from.page("/battle/"+to.id, &got)
			if got.Instance != to.id {
				t.Errorf("from %s to %s: %+v answered", from.id, to.id, got)
			}
		}
		code, body := get(t, from.http+"/battle/nobody")
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "fly-force-instance-id names an instance that is not registered") {
			t.Errorf("from %s to nobody: %d %s", from.id, code, body)
		}
	}
}

func allInstances(t *testing.T, all []*fighter) {
	for _, f := range all {
		var got map[string]answer
		f.page("/battles", &got)
		if len(got) != len(all) {
			t.Errorf("%s found %v, want all %d", f.id, slices.Sorted(maps.Keys(got)), len(all))
		}
		for id, a := range got {
			if a.Instance != id {
				t.Errorf("%s: for %s answered %+v", f.id, id, a)
			}
		}
	}
}

// battlesAcross has each app play a battle on each, with its streams in both directions.
func battlesAcross(t *testing.T, all []*fighter) {
	for _, from := range all {
		for _, to := range all {
			var got struct{ Played, Watched []answer }
			from.page("/battle/"+to.id+"/play", &got)
			var story []string
			for _, a := range slices.Concat(got.Played, got.Watched) {
				if a.Instance != to.id {
					t.Errorf("from %s to %s: %+v answered", from.id, to.id, a)
				}
				story = append(story, fmt.Sprint(a.Number, a.Action))
			}
			if want := "1attack 2defend 3finish 0watching 1attack 2defend 3finish"; strings.Join(story, " ") != want {
				t.Errorf("from %s to %s: %s, want %s", from.id, to.id, strings.Join(story, " "), want)
			}
		}
	}
}

// stoppedUnderLoad ends and restarts each app in turn, by SIGTERM, while the others call.
func stoppedUnderLoad(t *testing.T, all []*fighter, sidecars []*sidecar) {
	for i, victim := range all {
		calls := make(map[string]oneMore)
		for _, f := range all {
			if f == victim {
				continue
			}
			client, url := pb.NewBattleServiceClient(f.sidecar.dial(t)), f.http+"/battle"
			calls["the sidecar of "+f.id] = func(ctx context.Context, _ int) (string, error) {
				battle, err := client.JoinBattle(ctx, &pb.JoinBattleRequest{Player: "load"})
				return battle.GetInstanceId(), err
			}
			calls["the page of "+f.id] = func(context.Context, int) (string, error) {
				code, body := get(t, url)
				var a answer
				if code != http.StatusOK || json.Unmarshal([]byte(body), &a) != nil {
					return "", fmt.Errorf("%d %s", code, body)
				}
				return a.Instance, nil
			}
		}
		l := startLoadOf(t, 4*time.Millisecond, calls)
		more := func(what string) {
			t.Helper()
			begun := l.calls.Load()
			eventually(t, what, func() bool { return l.calls.Load() >= begun+200 })
		}
		more("calls with all of them")
		victim.signal(syscall.SIGTERM)
		if code := victim.exit(patience); code != 0 || !strings.Contains(victim.output(), "ended") || strings.Contains(victim.output(), "were cut") {
			t.Errorf("%s on SIGTERM: exit code %d\n%s", victim.id, code, victim.output())
		}
		sees(t, len(all)-1, append(slices.Clone(sidecars[:i]), sidecars[i+1:]...)...)
		more("calls without " + victim.id)
		victim.run()
		sees(t, len(all), sidecars...)
		more("calls with it again")
		said := l.stop()
		t.Logf("%s stopped and back: %s; by %v", victim.id, said, l.by)
		if l.by[victim.id] == 0 {
			t.Errorf("%s took none of the calls, so nothing was shown", victim.id)
		}
	}
}

// streamsWhenItStops: a watch is told at once that the instance stops; a stream that its client keeps open is cut after the app's bound.
func streamsWhenItStops(t *testing.T, all []*fighter) {
	for i, victim := range all[:2] { // one of each language
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ctx = metadata.AppendToOutgoingContext(ctx, "fly-force-instance-id", victim.id)
		client := pb.NewBattleServiceClient(all[3-i].sidecar.dial(t))
		battle, err := client.JoinBattle(ctx, &pb.JoinBattleRequest{Player: "patient"})
		if err != nil {
			t.Fatal(err)
		}
		watch, err := client.WatchBattle(ctx, &pb.WatchBattleRequest{BattleId: battle.GetBattleId()})
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
		attack := &pb.Move{BattleId: battle.GetBattleId(), Player: "patient", Action: "attack"}
		say := func() {
			t.Helper()
			if err := play.Send(attack); err != nil {
				t.Fatal(err)
			}
			if _, err := play.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		say()
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		victim.signal(syscall.SIGINT)
		if _, err := watch.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "this instance stops: join again") {
			t.Errorf("the watch on %s ended with %v", victim.id, err)
		}
		say() // what is open goes on
		if code := victim.exit(patience); code != 0 || !strings.Contains(victim.output(), "were cut") {
			t.Errorf("%s on SIGINT with a stream open: exit code %d\n%s", victim.id, code, victim.output())
		}
		if _, err := play.Recv(); err == nil {
			t.Errorf("%s is gone and the stream goes on", victim.id)
		}
	}
}

func TestExamplesSayWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for lang, argv := range exampleApps(t) {
		for _, env := range [][]string{
			{"GRPC_PORT=" + port, fmt.Sprint("PORT=", freePort(t))},
			{fmt.Sprint("GRPC_PORT=", freePort(t)), "PORT=" + port},
		} {
			p := start(t, lang, env, argv...)
			if code := p.exit(patience); code != 1 || !strings.Contains(p.output(), port) {
				t.Errorf("%s with %v: exit code %d, and it does not name the port:\n%s", lang, env, code, p.output())
			}
		}
		// Without a sidecar the app serves, and its pages say what is missing.
		page := freePort(t)
		p := start(t, lang, []string{fmt.Sprint("GRPC_PORT=", freePort(t)), fmt.Sprint("PORT=", page),
			fmt.Sprint("FLYPROXY_ADDR=localhost:", freePort(t))}, argv...)
		var code int
		var body string
		eventually(t, "a page of "+lang, func() bool { code, body = get(t, fmt.Sprintf("http://127.0.0.1:%d/battle", page)); return code != 0 })
		if code != http.StatusServiceUnavailable || !strings.Contains(strings.ToLower(body), "connect") {
			t.Errorf("%s without a sidecar: %d %s", lang, code, body)
		}
		p.signal(syscall.SIGTERM)
		if code := p.exit(patience); code != 0 {
			t.Errorf("%s: exit code %d", lang, code)
		}
	}
}

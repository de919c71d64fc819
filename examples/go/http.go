package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/flyproxy/flyproxy/examples/go/battlev1"
)

const usage = `GET /battle                   the best instance answers
GET /battle/{instance}        that instance answers
GET /battle/{instance}/play   a whole battle there: join, watch, play
GET /battles                  all instances answer
`

// callTimeout bounds what one page asks of the cluster.
const callTimeout = 5 * time.Second

// pages are the battles over HTTP, so that they can be tried with curl.
func pages(rpc *BattleRPCClient) http.Handler {
	mux := http.NewServeMux()
	page := func(pattern string, ask func(ctx context.Context, r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
			defer cancel()
			answer, err := ask(ctx, r)
			if err != nil {
				writeJSON(w, httpStatus(err), failure(err))
				return
			}
			writeJSON(w, http.StatusOK, answer)
		})
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(usage)) })
	// region: calls
	page("/battle", func(ctx context.Context, _ *http.Request) (any, error) {
		return join(ctx, rpc.OptimalClient())
	})
	page("/battle/{instance}", func(ctx context.Context, r *http.Request) (any, error) {
		return join(ctx, rpc.ClientByInstanceID(r.PathValue("instance")))
	})
	// endregion
	page("/battle/{instance}/play", func(ctx context.Context, r *http.Request) (any, error) {
		return playWhole(ctx, rpc.ClientByInstanceID(r.PathValue("instance")))
	})
	page("/battles", func(ctx context.Context, _ *http.Request) (any, error) { return joinAll(ctx, rpc) })
	return mux
}

func join(ctx context.Context, client pb.BattleServiceClient) (json.RawMessage, error) {
	battle, err := client.JoinBattle(ctx, &pb.JoinBattleRequest{Player: "curl"})
	if err != nil {
		return nil, err
	}
	return asJSON(battle)
}

// joinAll asks all instances at once. One that fails meanwhile is told as a failure of its own.
func joinAll(ctx context.Context, rpc *BattleRPCClient) (map[string]any, error) {
	clients, err := rpc.AllAvailableClients(ctx)
	if err != nil {
		return nil, err
	}
	answers := make(map[string]any)
	var mu sync.Mutex // guards answers
	var wg sync.WaitGroup
	for id, client := range clients {
		wg.Go(func() {
			var answer any
			answer, err := join(ctx, client)
			if err != nil {
				answer = failure(err)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[id] = answer
		})
	}
	wg.Wait()
	return answers, nil
}

func asJSON(m proto.Message) (json.RawMessage, error) {
	return protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
}

func failure(err error) map[string]string {
	return map[string]string{"error": status.Convert(err).Message()}
}

func httpStatus(err error) int {
	switch status.Code(err) {
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.NotFound:
		return http.StatusNotFound
	}
	return http.StatusBadGateway
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	_ = out.Encode(v)
}

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// Clients in other languages, as they are: they dial localhost and know nothing of flyproxy.
func TestClientsOfOtherLanguages(t *testing.T) { eachEngine(t, clientsOfOtherLanguages) }

func clientsOfOtherLanguages(t *testing.T, engine string) {
	redis := redistest.Start(t, redistest.Config{})
	env := "REDIS_URL=redis://" + redis.Addr()
	var all []*sidecar
	for i := range 3 {
		id := fmt.Sprintf("m%d", i)
		_, port := startApp(t, id, "ams")
		all = append(all, startSidecar(t, id, "ams", port, engine, env))
	}
	sees(t, 3, all...)

	clients, err := filepath.Abs("../clients")
	if err != nil {
		t.Fatal(err)
	}
	node, nodeErr := exec.LookPath("node")
	python := filepath.Join(clients, "python", ".venv", "bin", "python")
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	for _, c := range []struct {
		name, missing string
		there         bool
		argv          []string
	}{
		{"grpc-js", "grpc-js (test/clients/node/node_modules)",
			nodeErr == nil && exists(filepath.Join(clients, "node", "node_modules", "@grpc", "grpc-js")),
			[]string{node, filepath.Join(clients, "node", "client.js")}},
		{"grpcio", "grpcio (test/clients/python/.venv)", exists(filepath.Join(filepath.Dir(python), "..", ".installed")),
			[]string{python, filepath.Join(clients, "python", "client.py")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			need(t, c.missing, c.there)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			argv := append(c.argv, fmt.Sprintf("localhost:%d", all[0].port), "30")
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			out, err := cmd.Output()
			if err != nil {
				var stderr []byte
				if exit, ok := err.(*exec.ExitError); ok {
					stderr = exit.Stderr
				}
				t.Fatalf("%v\n%s%s", err, out, stderr)
			}
			said := jsonLines(t, out)
			// Of three in the region, ourselves last: the two others take the calls.
			instances, _ := said["unary"]["instances"].(map[string]any)
			if len(instances) != 2 || instances["m0"] != nil {
				t.Errorf("unary calls went to %v, want m1 and m2", instances)
			}
			if said["pinned"]["wanted"] != said["pinned"]["got"] || said["pinned"]["got"] == nil {
				t.Errorf("pinned: %v", said["pinned"])
			}
			if got := fmt.Sprint(said["count"]["numbers"]); got != "[1 2 3 4 5]" {
				t.Errorf("server stream: %v", got)
			}
			heard, _ := said["chat"]["heard"].([]any)
			if !slices.EqualFunc(heard, []string{"a", "b", "c"}, func(h any, w string) bool { return h == "Hello, "+w+"!" }) {
				t.Errorf("bidirectional stream: %v", heard)
			}
		})
	}
}

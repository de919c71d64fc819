package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// configs are the templates of the configurations that the proxies run with, each explained in itself.
//
//go:embed configs
var configs embed.FS

// direct is the id of no proxy at all.
const direct = "direct"

// subject is one way from the client to the peers.
type subject struct {
	id, title string
	// config is the name of its template; empty for no proxy.
	config string
	// engine is flyproxy's.
	engine string
	// program is the path of its executable.
	program string
	// argv makes its command line from its configuration's path and a folder of its own.
	argv func(config, dir string) []string
	// balances is false for one that cannot send the calls of a connection to several peers.
	balances bool
	// version asks it who it is: arguments, and the expression whose first group finds it in the answer.
	versionArgs []string
	versionForm *regexp.Regexp
	version     string
}

// engines are flyproxy's data planes. One that this build refuses is left out with a note.
var engines = []string{"relay", "grpc"}

// subjects are all, in the page's order; programs that are not found have an empty path.
func subjects(flyproxy, root string) []subject {
	all := []subject{
		{id: direct, title: "no proxy", balances: true},
		{
			id: "haproxy-tcp", title: "HAProxy, mode tcp", config: "haproxy-tcp.cfg", program: find("haproxy"), argv: haproxyArgv,
			versionArgs: []string{"-v"}, versionForm: regexp.MustCompile(`version (\S+)`),
		},
	}
	for _, engine := range engines {
		all = append(all, subject{
			id: "flyproxy-" + engine, title: "flyproxy, engine " + engine, config: "flyproxy.yaml", engine: engine, program: flyproxy,
			balances:    true,
			argv:        func(config, _ string) []string { return []string{"serve", "--config", config} },
			versionArgs: []string{"version"}, versionForm: regexp.MustCompile(`(?:flyproxy )?(\S+)`),
		})
	}
	return append(all,
		subject{
			id: "haproxy", title: "HAProxy", config: "haproxy.cfg", program: find("haproxy"), argv: haproxyArgv, balances: true,
			versionArgs: []string{"-v"}, versionForm: regexp.MustCompile(`version (\S+)`),
		},
		subject{
			id: "nginx", title: "nginx", config: "nginx.conf", program: find("nginx"), balances: true,
			argv:        func(config, dir string) []string { return []string{"-p", dir, "-e", "stderr", "-c", config} },
			versionArgs: []string{"-v"}, versionForm: regexp.MustCompile(`nginx/(\S+)`),
		},
		subject{
			id: "caddy", title: "Caddy", config: "Caddyfile", program: find("caddy"), balances: true,
			argv: func(config, _ string) []string {
				return []string{"run", "--adapter", "caddyfile", "--config", config}
			},
			versionArgs: []string{"version"}, versionForm: regexp.MustCompile(`(\S+)`),
		},
		subject{
			id: "envoy", title: "Envoy", config: "envoy.yaml", program: findEnvoy(root), balances: true,
			argv: func(config, _ string) []string {
				return []string{"-c", config, "--disable-hot-restart", "--log-level", "warning"}
			},
			versionArgs: []string{"--version"}, versionForm: regexp.MustCompile(`/(\d+\.\d+\.\d+)/`),
		},
	)
}

func haproxyArgv(config, _ string) []string { return []string{"-db", "-f", config} }

// find looks in the path and where Debian has its daemons, which is not in every user's path; empty when there is none.
func find(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", program)); err == nil {
		return path
	}
	return ""
}

// findEnvoy prefers the executable in the wheel that install.sh has installed to one in the path.
func findEnvoy(root string) string {
	found, _ := filepath.Glob(filepath.Join(root, "bench/.venv/lib/python3*/site-packages/envoy/_bin/envoy"))
	if len(found) > 0 {
		return found[0]
	}
	return find("envoy")
}

// wanted tells whether a list of ids, in which none means all, has id.
func wanted(ids []string, id string) bool { return len(ids) == 0 || slices.Contains(ids, id) }

// askVersion fills in the version, or says that there is none.
func (s *subject) askVersion(ctx context.Context) {
	if len(s.versionArgs) == 0 {
		return
	}
	s.version = "unknown"
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, s.versionArgs...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return
	}
	if found := s.versionForm.FindSubmatch(out); found != nil {
		s.version = string(found[1])
	}
}

// projectRoot is the folder of go.mod.
func projectRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if root := strings.TrimSpace(string(out)); err == nil && root != "" {
		return root, nil
	}
	return "", fmt.Errorf("find the project: run this in its folder (go list -m): %w", errOr(err, "no module"))
}

// buildFlyproxy builds the program as releases are built, into dir.
func buildFlyproxy(ctx context.Context, root, dir string) (string, error) {
	program := filepath.Join(dir, "flyproxy")
	flags := "-s -w"
	describe := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty")
	describe.Dir = root
	if out, err := describe.Output(); err == nil { // without it the program knows its commit at most
		flags += " -X main.version=" + strings.TrimSpace(string(out))
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", flags, "-o", program, "./cmd/flyproxy")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build flyproxy: %w\n%s", err, out)
	}
	return program, nil
}

var errNotInstalled = errors.New("not installed (bench/install.sh installs it)")

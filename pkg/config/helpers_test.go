package config_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// load reads text as ./flyproxy.yaml (none when it is empty) and the environment given.
func load(text string, env ...string) (*config.Config, error) {
	return config.Load(config.Options{
		Environ:  env,
		Hostname: "box",
		ReadFile: func(name string) ([]byte, error) {
			if name == "flyproxy.yaml" && text != "" {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
	})
}

func mustLoad(t *testing.T, text string, env ...string) *config.Config {
	t.Helper()
	cfg, err := load(text, env...)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return cfg
}

// faults gives the faults in their one-line form.
func faults(t *testing.T, text string, env ...string) []string {
	t.Helper()
	_, err := load(text, env...)
	var faulty *config.Error
	if !errors.As(err, &faulty) {
		t.Fatalf("load gave %v, wanted faults", err)
	}
	var all []string
	for _, f := range faulty.Faults {
		all = append(all, f.String())
	}
	return all
}

func wantLines(t *testing.T, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// good is an environment that lacks nothing.
func good(more ...string) []string {
	return append([]string{"FLYPROXY_SERVICE=greeter", "REDIS_HOST=redis.example"}, more...)
}

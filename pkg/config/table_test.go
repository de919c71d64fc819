package config_test

import (
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// The top-level keys are part of what users rely on.
func TestTopLevelKeys(t *testing.T) {
	var got []string
	for _, k := range config.Keys() {
		top, _, _ := strings.Cut(strings.ReplaceAll(k.Path, "[]", ""), ".")
		if len(got) == 0 || got[len(got)-1] != top {
			got = append(got, top)
		}
	}
	const want = "mode listen listen_socket_mode engine service instance_id region apps registration registry routing retry upstream downstream " +
		"limits drain run admin log access_log"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

// Two keys that would share a variable could not be told apart there.
func TestVariablesAreDistinct(t *testing.T) {
	seen := make(map[string]string)
	for _, k := range config.Keys() {
		if k.Env == "" {
			continue
		}
		if other, twice := seen[k.Env]; twice {
			t.Errorf("%s and %s both have %s", other, k.Path, k.Env)
		}
		seen[k.Env] = k.Path
	}
	for path, env := range map[string]string{
		"listen": "FLYPROXY_LISTEN", "admin.listen": "FLYPROXY_ADMIN_LISTEN", "engine": "FLYPROXY_ENGINE",
		"service": "FLYPROXY_SERVICE", "instance_id": "FLYPROXY_INSTANCE_ID", "region": "FLYPROXY_REGION",
		"registration.address": "FLYPROXY_REGISTRATION_ADDRESS", "routing.policy": "FLYPROXY_ROUTING_POLICY",
	} {
		if seen[env] != path {
			t.Errorf("%s sets %q, want %s", env, seen[env], path)
		}
	}
}

func TestEveryKeySaysWhatItIs(t *testing.T) {
	for _, k := range config.Keys() {
		if k.Usage == "" {
			t.Errorf("%s has no usage", k.Path)
		}
	}
}

// Whatever a file or a variable holds, Load answers with a configuration or with faults that say where; and what is good is
// good again.
func FuzzLoad(f *testing.F) {
	f.Add("listen: [localhost:1]\napps: [{name: a}]", "[{name: b}]", "redis://u:p@h:1/2")
	f.Add("a: &a [*a]", "{", "redis://%zz")
	f.Add("registry:\n\tredis: ", "- ", "rediss://[::1")
	f.Add("? {a: b}\n: c", "[[[]]]", "redis:///")
	f.Add("%YAML 1.1\n---\n!!binary x", "!!float a", "://@")
	f.Fuzz(func(t *testing.T, file, apps, url string) {
		env := []string{"FLYPROXY_SERVICE=s", "REDIS_URL=" + url, "FLYPROXY_APPS=" + apps}
		cfg, err := load(file, env...)
		if err == nil {
			if err := cfg.Print(&strings.Builder{}); err != nil {
				t.Error(err)
			}
			return
		}
		faulty, ok := err.(*config.Error)
		if !ok || cfg != nil || len(faulty.Faults) == 0 {
			t.Fatalf("%v, %v", cfg, err)
		}
		for _, fault := range faulty.Faults {
			if fault.Source == "" || fault.Problem == "" || fault.Source == "flyproxy" {
				t.Errorf("%+v", fault)
			}
		}
	})
}

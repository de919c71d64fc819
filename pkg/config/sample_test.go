package config_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/flyproxy/flyproxy/pkg/config"
)

const samplePath = "../../configs/flyproxy.yaml"

func readSample(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(samplePath)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// uncomment makes every commented-out key of the sample a live one: "# name: value", "# - name: value", and below such a key
// indented list items and comments. Prose never looks like that.
func uncomment(sample string) string {
	key := regexp.MustCompile(`^(\s*)# ( *(?:- )?[a-z_]+:(?: .*)?| +- .*| +# .*)$`)
	var out []string
	for line := range strings.Lines(sample) {
		line = strings.TrimSuffix(line, "\n")
		out = append(out, key.ReplaceAllString(line, "$1$2"))
	}
	return strings.Join(out, "\n")
}

// The sample with nothing changed means the same as no file at all, on Fly and elsewhere, and gives no warning.
func TestSampleHoldsTheDefaults(t *testing.T) {
	common := []string{
		"REDIS_URL=rediss://user:secret@redis.example:6380/3", "FLYPROXY_SERVICE=greeter", "FLYPROXY_INSTANCE_ID=i1",
	}
	surroundings := map[string][]string{
		"elsewhere": common,
		"fly": append([]string{
			"FLY_APP_NAME=shop", "FLY_MACHINE_ID=148e", "FLY_REGION=fra", "FLY_PRIVATE_IP=fdaa:0:1::2",
			"FLY_PROCESS_GROUP=app", "FLY_IMAGE_REF=img:1", "GRPC_PORT=6000", "GRPC_BIND_ADDRESS=::",
		}, common...),
	}
	for name, env := range surroundings {
		t.Run(name, func(t *testing.T) {
			without := mustLoad(t, "", env...)
			with, err := config.Load(config.Options{Path: samplePath, Environ: env, Hostname: "box"})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range with.Warnings {
				t.Errorf("warning: %s", w)
			}
			a, b := reflect.ValueOf(without).Elem(), reflect.ValueOf(with).Elem()
			for i := range a.NumField() {
				f := a.Type().Field(i)
				if f.Tag.Get("key") != "" && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
					t.Errorf("%s: without the file\n%+v, with it\n%+v", f.Name, a.Field(i), b.Field(i))
				}
			}
		})
	}
}

// Every key stands in the sample, live or commented out, and one with a fixed default stands there with exactly that.
func TestSampleDocumentsEveryKey(t *testing.T) {
	text := uncomment(readSample(t))
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("the sample with every key uncommented: %v\n%s", err, text)
	}
	found := make(map[string][]string)
	collect(doc.Content[0], "", found)
	for _, k := range config.Keys() {
		values, ok := found[k.Path]
		if !ok {
			t.Errorf("%s is not documented", k.Path)
			continue
		}
		if k.Default != "" && strings.Join(values, ",") != k.Default {
			t.Errorf("%s is documented as %q, its default is %q", k.Path, strings.Join(values, ","), k.Default)
		}
		delete(found, k.Path)
	}
	for path := range found {
		t.Errorf("%s is documented but no key", path)
	}
}

// The examples of the sample are good values.
func TestSampleExamplesLoad(t *testing.T) {
	cfg := mustLoad(t, uncomment(readSample(t)))
	if got := cfg.Registration.Labels; len(got) != 1 || got[0].Name != "example.com/tier" {
		t.Errorf("labels: %+v", got)
	}
	if cfg.Registry.Store != config.StoreRedis || cfg.Registry.Redis.Mode != config.RedisSentinel {
		t.Errorf("store %q, mode %q", cfg.Registry.Store, cfg.Registry.Redis.Mode)
	}
}

// collect gathers the values of all keys, with [] for the items of a list of objects.
func collect(n *yaml.Node, path string, found map[string][]string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := path+n.Content[i].Value, n.Content[i+1]
		switch {
		case v.Kind == yaml.MappingNode:
			collect(v, k+".", found)
		case v.Kind == yaml.SequenceNode && v.Content[0].Kind == yaml.MappingNode:
			found[k] = nil
			collect(v.Content[0], k+"[].", found)
		case v.Kind == yaml.SequenceNode:
			for _, item := range v.Content {
				found[k] = append(found[k], item.Value)
			}
		default:
			found[k] = []string{v.Value}
		}
	}
}

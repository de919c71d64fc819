package docs_test

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// The samples bound their own end below the time that flyproxy gives them: at the same moment, whether they are killed is chance.
func TestSamplesEndBeforeTheyAreKilled(t *testing.T) {
	var limit time.Duration
	for _, k := range config.Keys() {
		if k.Path == "run.stop_timeout" {
			var err error
			if limit, err = time.ParseDuration(k.Default); err != nil {
				t.Fatal(err)
			}
		}
	}
	find := func(file, pattern string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(read(t, file))
		if m == nil {
			t.Fatalf("%s has nothing like %s", file, pattern)
		}
		return m[1]
	}
	seconds, err := strconv.Atoi(find("examples/go/main.go", `stopWithin = (\d+) \* time\.Second`))
	if err != nil {
		t.Fatal(err)
	}
	ms, err := strconv.Atoi(find("examples/node/src/main.ts", `stopWithinMs = (\d)_000`))
	if err != nil {
		t.Fatal(err)
	}
	for _, within := range []time.Duration{time.Duration(seconds) * time.Second, time.Duration(ms) * time.Second} {
		if within > limit-250*time.Millisecond {
			t.Errorf("a sample ends within %v, and is killed after %v", within, limit)
		}
	}
	if said := find("fly.toml", `FLYPROXY_RUN_STOP_TIMEOUT \(([0-9.]+s)\)`); said != limit.String() {
		t.Errorf("fly.toml says %s, the default is %v", said, limit)
	}
	for _, file := range []string{"examples/go/main.go", "examples/node/src/main.ts"} {
		if said := find(file, `run\.stop_timeout \(([0-9.]+) s\)`); said+"s" != limit.String() {
			t.Errorf("%s says %s s, the default is %v", file, said, limit)
		}
	}
}

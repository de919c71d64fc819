package docs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// The quickstart once named registration.interval alone, and a longer interval does not go with the usual lease.
func TestSettingsThatPagesNameAreTaken(t *testing.T) {
	setting := regexp.MustCompile("`(FLYPROXY_[A-Z_]+=[^`]+)`")
	environ := []string{"FLY_APP_NAME=battle", "FLY_MACHINE_ID=148e", "FLY_REGION=ams", "FLY_PRIVATE_IP=fdaa:0:1::2", "REDIS_HOST=redis.example"}
	names := ""
	for _, m := range setting.FindAllStringSubmatch(read(t, "docs/quickstart.md"), -1) {
		environ = append(environ, m[1])
		names += m[1] + " "
	}
	if !strings.Contains(names, "FLYPROXY_REGISTRATION_INTERVAL=") {
		t.Fatalf("the quickstart does not say how to have fewer commands: it names %s", names)
	}
	_, err := config.Load(config.Options{Environ: environ, ReadFile: func(string) ([]byte, error) { return nil, os.ErrNotExist }})
	if err != nil {
		t.Errorf("with %s: %v", names, err)
	}
}

// Without a host fly proxy opens any Machine of the app, and a gateway has no page of the sample.
func TestPagesOpenAMachineOfTheApp(t *testing.T) {
	command := regexp.MustCompile(`(?m)^fly proxy (\S+) ?(\S*)`)
	n := 0
	for name, text := range pages(t) {
		for _, m := range command.FindAllStringSubmatch(text, -1) {
			n++
			if !strings.HasPrefix(m[2], "app.process.") || !strings.HasSuffix(m[2], ".internal") {
				t.Errorf("%s: %q may open a gateway: name the group, as in app.process.test-battle.internal", name, m[0])
			}
		}
	}
	if n == 0 {
		t.Error("no page has fly proxy")
	}
}

// What the Node example's page, package.json and lock file say of Node.js is one version.
func TestNodeExampleSaysOneVersion(t *testing.T) {
	type manifest struct {
		Engines struct{ Node string }
	}
	var pkg manifest
	var lock struct{ Packages map[string]manifest }
	for file, to := range map[string]any{"package.json": &pkg, "package-lock.json": &lock} {
		if err := json.Unmarshal([]byte(read(t, "examples/node/"+file)), to); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	said := regexp.MustCompile(`Node\.js ([\d.]+) or later`).FindStringSubmatch(read(t, "examples/node/README.md"))
	if said == nil {
		t.Fatal("the README names no version of Node.js")
	}
	if want := ">=" + said[1]; pkg.Engines.Node != want || lock.Packages[""].Engines.Node != want {
		t.Errorf("README: %s, package.json: %s, package-lock.json: %s", want, pkg.Engines.Node, lock.Packages[""].Engines.Node)
	}
}

// A target that stands twice in the Makefile is twice in the list that make shows.
func TestMakefileHasNoTargetTwice(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllStringSubmatch(string(makefile), -1) {
		if seen[m[1]] {
			t.Errorf("%s stands there twice", m[1])
		}
		seen[m[1]] = true
	}
	if len(seen) < 10 {
		t.Errorf("only %d targets were found", len(seen))
	}
}

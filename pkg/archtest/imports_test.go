package archtest

import (
	"slices"
	"strings"
	"testing"
)

// rule says what of ours the packages in and below dir may import: the rooms named, exactly. What is not named is forbidden, so
// a new direction is a decision that is made here.
type rule struct {
	dir string
	may []string
	// stdlib says that of others' code only the standard library may be imported.
	stdlib bool
}

const (
	telemetry = "pkg/telemetry"
	contract  = "pkg/registry"
	routing   = "pkg/routing"
	engine    = "pkg/engine"
	tlsfiles  = "pkg/tlsfiles"
	anything  = "*"
)

// rules are looked up from the first one on; the first whose dir fits counts.
var rules = []rule{
	// The leaves.
	{dir: telemetry},
	{dir: "pkg/fly"},
	{dir: tlsfiles, stdlib: true},
	{dir: "pkg/supervise"},
	{dir: "pkg/api/flyproxyv1"},
	{dir: "pkg/demo/greeterv1"},
	// Adapters import the contract and never each other.
	{dir: "pkg/registry/redistest", may: []string{"pkg/tlsfiles/tlstest"}},
	{dir: "pkg/registry/redis", may: []string{contract, telemetry}},
	{dir: "pkg/registry/static", may: []string{contract, telemetry}},
	{dir: "pkg/registry/embedded", may: []string{contract, telemetry}},
	{dir: contract, stdlib: true},
	// The data plane.
	{dir: routing, may: []string{contract}, stdlib: true},
	// The suite that all engines pass knows none of them.
	{dir: "pkg/engine/enginetest", may: []string{engine, routing, contract, "test/conformance/leak"}},
	{dir: engine, may: []string{contract}},
	{dir: "pkg/grpcengine", may: []string{engine, routing, contract, telemetry}},
	{dir: "pkg/downstream", may: []string{"pkg/fly", contract, telemetry}, stdlib: true},
	{dir: "pkg/relay", may: []string{engine, routing, contract, telemetry, "pkg/relay/hpack"}},
	// The control plane.
	{dir: "pkg/discovery", may: []string{contract, telemetry}, stdlib: true},
	{dir: "pkg/registrar", may: []string{contract, telemetry}},
	{dir: "pkg/admin", may: []string{contract, telemetry}},
	{dir: "pkg/api", may: []string{contract, telemetry, "pkg/api/flyproxyv1"}},
	// Configuration knows Fly, and only who puts the parts together knows configuration. The demo does: it runs whole sidecars.
	{dir: "pkg/config", may: []string{"pkg/fly", contract, telemetry, tlsfiles}},
	{dir: "pkg/sidecar", may: []string{
		"pkg/admin", "pkg/api", "pkg/config", "pkg/discovery", "pkg/downstream", engine, "pkg/fly", "pkg/grpcengine", "pkg/registrar", contract,
		"pkg/registry/embedded", "pkg/registry/redis", "pkg/registry/static", "pkg/relay", routing, telemetry, tlsfiles,
	}},
	// It judges by what the sidecar would do, so it asks the same rooms.
	{dir: "pkg/doctor", may: []string{
		"pkg/admin", "pkg/api/flyproxyv1", "pkg/config", "pkg/fly", "pkg/registrar", contract, "pkg/registry/redis", "pkg/registry/static",
		"pkg/sidecar", tlsfiles,
	}},
	{dir: "pkg/demo", may: []string{"pkg/config", "pkg/demo/greeterv1", "pkg/sidecar", "pkg/registry/embedded", telemetry}},
	{dir: "pkg/archtest"},
	{dir: "cmd", may: []string{"pkg/admin", "pkg/config", "pkg/demo", "pkg/doctor", "pkg/fly", "pkg/sidecar", "pkg/supervise", telemetry}},
	// Fly's files have to agree with flyproxy's own paths and defaults.
	{dir: "tools/flyconfig", may: []string{"pkg/admin", "pkg/config"}},
	{dir: "tools/flycheck", may: []string{"tools/flyconfig"}},
	{dir: "tools/gendocs", may: []string{"pkg/config"}},
	{dir: "tools"},
	{dir: "test", may: []string{anything}},
	{dir: "bench", may: []string{anything}},
	// People copy the examples: of ours they import what is public, and what is generated for them.
	{dir: "examples/go/battlev1"},
	{dir: "examples", may: []string{"examples/go/battlev1", "pkg/api/flyproxyv1"}},
}

func ruleOf(room string) *rule {
	for i := range rules {
		if within(room, rules[i].dir) {
			return &rules[i]
		}
	}
	return nil
}

func TestImportDirection(t *testing.T) {
	for _, p := range packages(t) {
		r := ruleOf(p.room())
		if r == nil {
			t.Errorf("%s is in no rule: say in %s what it may import", p.room(), "pkg/archtest")
			continue
		}
		for _, path := range p.Imports {
			if fault := r.fault(p.room(), path); fault != "" {
				t.Errorf("%s imports %s: %s", p.room(), strings.TrimPrefix(path, module), fault)
			}
		}
	}
}

// fault says what is wrong with an import of a package that the rule is for; empty when nothing is.
func (r *rule) fault(room, path string) string {
	to, own := ours(path)
	switch {
	case standard(path):
		return ""
	case !own && r.stdlib:
		return "it may import the standard library only"
	case !own:
		return ""
	case (&pack{ImportPath: path}).supportsTests() && !(&pack{ImportPath: module + room}).supportsTests():
		return "only tests may"
	case slices.Contains(r.may, anything), slices.Contains(r.may, to):
		return ""
	case len(r.may) == 0:
		return "it may import nothing of this module"
	}
	return "it may import " + strings.Join(r.may, ", ")
}

// A call never waits for the registry, so nothing on its way can even reach a store, however indirectly.
func TestDataPlaneHasNoStore(t *testing.T) {
	forbidden := []string{"github.com/redis/", "github.com/alicebob/miniredis", module + "pkg/registry/"}
	for _, p := range packages(t) {
		if !within(p.room(), routing) && !within(p.room(), "pkg/grpcengine") && !within(p.room(), "pkg/relay") {
			continue
		}
		for _, dep := range p.Deps {
			for _, f := range forbidden {
				if strings.HasPrefix(dep, f) {
					t.Errorf("%s depends on %s", p.room(), dep)
				}
			}
		}
	}
}

// The rules themselves: what must fail does.
func TestRulesForbid(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		allowed  bool
	}{
		{"pkg/routing", "pkg/registry", true},
		{"pkg/routing", "pkg/telemetry", false},
		{"pkg/registry", "pkg/telemetry", false},
		{"pkg/registry/redis", "pkg/registry", true},
		{"pkg/registry/redis", "pkg/registry/static", false},
		{"pkg/registry/static", "pkg/registry/redis", false},
		{"pkg/registry/redis", "pkg/registry/redistest", false},
		{"pkg/grpcengine", "pkg/routing", true},
		{"pkg/grpcengine", "pkg/registry/redis", false},
		{"pkg/grpcengine", "pkg/relay", false},
		{"pkg/relay", "pkg/engine/enginetest", false},
		{"pkg/engine/enginetest", "pkg/engine", true},
		{"pkg/engine/enginetest", "pkg/relay", false},
		{"pkg/discovery", "pkg/fly", false},
		{"pkg/registrar", "pkg/config", false},
		{"pkg/api", "pkg/discovery", false},
		{"pkg/admin", "pkg/sidecar", false},
		{"pkg/telemetry", "pkg/registry", false},
		{"pkg/config", "pkg/fly", true},
		{"pkg/config", "pkg/tlsfiles", true},
		{"pkg/tlsfiles", "pkg/telemetry", false},
		{"pkg/relay", "pkg/tlsfiles", false},
		{"pkg/downstream", "pkg/tlsfiles", false},
		{"pkg/downstream", "pkg/fly", true},
		{"pkg/relay", "pkg/downstream", false},
		{"pkg/config", "pkg/sidecar", false},
		{"pkg/sidecar", "pkg/config", true},
		{"pkg/sidecar", "pkg/demo", false},
		{"pkg/demo", "pkg/sidecar", true},
		{"cmd/flyproxy", "pkg/sidecar", true},
		{"pkg/doctor", "pkg/relay", false},
		{"pkg/sidecar", "pkg/doctor", false},
		{"cmd/flyproxy", "pkg/registry/redis", false},
		{"test/e2e", "pkg/registry/redistest", true},
		{"examples/go", "pkg/api/flyproxyv1", true},
		{"examples/go", "pkg/fly", false},
	} {
		fault := ruleOf(tc.from).fault(tc.from, module+tc.to)
		if (fault == "") != tc.allowed {
			t.Errorf("%s may import %s: %q, want allowed %v", tc.from, tc.to, fault, tc.allowed)
		}
	}
	if fault := ruleOf(contract).fault(contract, "github.com/redis/go-redis/v9"); fault == "" {
		t.Error("the contract may import go-redis")
	}
	if fault := ruleOf(contract).fault(contract, "encoding/json"); fault != "" {
		t.Errorf("the contract may not import encoding/json: %s", fault)
	}
	if ruleOf("pkg/unheard-of") != nil {
		t.Error("a package that no rule names is not noticed")
	}
}

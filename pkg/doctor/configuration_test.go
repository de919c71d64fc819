package doctor_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/flyproxy/flyproxy/pkg/doctor"
	"github.com/flyproxy/flyproxy/pkg/registry/redistest"
)

// With faults in the configuration, all of them are told, and everything else is checked as far as it can be.
func TestConfigurationWithFaults(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	_, lis := startApp(t)
	h := newHost(t, "REDIS_URL=redis://"+s.Addr(), "GRPC_PORT="+port(lis), "FLYPROXY_ROUTING_POLICY=fastest", "FLYPROXY_DRAIN_TIMEOUT=soon",
		"FLYPROXY_REGISTRY_REDIS_CA_FILE=ca.pem")
	r := h.examine(t)
	if r.ConfigurationUsable || r.Worst != doctor.Error {
		t.Errorf("usable %v, worst %v", r.ConfigurationUsable, r.Worst)
	}
	expect(t, r, "configuration", "configuration.fault", "configuration.warning")
	text := show(t, r)
	for _, want := range []string{"FLYPROXY_ROUTING_POLICY", "fastest", "weighted_load", "FLYPROXY_DRAIN_TIMEOUT", "soon", "ca_file"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	expect(t, r, "redis", fine...)
	expect(t, r, "app", "app.accepts", "app.http2", "app.serving", "app.reflection", "app.advertised", "app.advertised-loopback")
	expect(t, r, "record", "record.not-expected")
}

func TestConfigurationThatSaysNothing(t *testing.T) {
	h := newHost(t)
	h.env = []string{"FLYPROXY_ADMIN_LISTEN=" + redistest.Refusing(t), "FLYPROXY_LISTEN=" + redistest.Refusing(t)}
	r := h.examine(t)
	says(t, r, "configuration.fault", "Service discovery not configured", "REDIS_URL")
	expect(t, r, "redis", "not-checked")
	expect(t, r, "registry", "not-checked")
	h.env = append(h.env, "FLYPROXY_CONFIG="+t.TempDir()+"/nowhere.yaml")
	says(t, h.examine(t), "configuration.fault", "nowhere.yaml")
}

// A list in place of a Redis needs none.
func TestStaticRegistry(t *testing.T) {
	_, lis := startApp(t)
	r := newHost(t, `FLYPROXY_REGISTRY_STATIC=[{service: battle, id: m1, address: "`+lis.Addr().String()+`", region: ams}]`, "GRPC_PORT="+port(lis)).examine(t)
	expect(t, r, "configuration", "configuration.good")
	expect(t, r, "redis", "redis.none")
	expect(t, r, "record", "record.not-expected")
	expect(t, r, "peers", "peers.reached")
}

func TestCatalogue(t *testing.T) {
	seen := make(map[string]bool)
	for _, k := range doctor.Catalogue() {
		check, name, ok := strings.Cut(k.ID, ".")
		if k.ID != "not-checked" && k.ID != "out-of-time" && (!ok || name == "" || !slices.Contains(doctor.Checks(), check)) {
			t.Errorf("the ID %q is not check.name", k.ID)
		}
		if seen[k.ID] {
			t.Errorf("the ID %s is there twice", k.ID)
		}
		seen[k.ID] = true
	}
}

// docs/troubleshooting.md speaks of IDs that there are, and of all that are errors or warnings.
func TestTroubleshootingPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	for _, m := range regexp.MustCompile("`\\[([a-z][^]`]*)\\]`").FindAllStringSubmatch(string(page), -1) {
		named[m[1]] = true
	}
	for _, k := range doctor.Catalogue() {
		if k.Level >= doctor.Warning && !named[k.ID] {
			t.Errorf("the page does not speak of [%s]", k.ID)
		}
		delete(named, k.ID)
	}
	for id := range named {
		t.Errorf("the page speaks of [%s], which no finding is", id)
	}
}

// What comes from elsewhere cannot steer the terminal, lines stay within its width, and colours are only where they are welcome.
func TestRender(t *testing.T) {
	r := newHost(t, "REDIS_URL=redis://"+redistest.Refusing(t), "FLYPROXY_NO_SUCH=\x1b[31m", "GRPC_PORT="+lastOf(redistest.Refusing(t))).examine(t)
	r.Findings = append(r.Findings, doctor.Finding{Check: "peers", ID: "peers.reached", Subject: "\x1b]0;x\a", Found: "a\nb"})
	for _, width := range []int{0, 60, 80, 120} {
		var b strings.Builder
		if err := doctor.Render(&b, r, doctor.RenderOptions{Width: width}); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(b.String(), "\x1b\a") {
			t.Error("it passes control characters on")
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 0 && n > width && strings.Contains(strings.TrimSpace(line), " ") {
				t.Errorf("a line has %d columns, of %d: %s", n, width, line)
			}
		}
	}
	var b strings.Builder
	if err := doctor.Render(&b, r, doctor.RenderOptions{Color: true}); err != nil || !strings.Contains(b.String(), "\x1b[31merror\x1b[0m") {
		t.Errorf("no colours where they are welcome: %v", err)
	}
}

// The form of the JSON is one that programs rely on.
func TestJSON(t *testing.T) {
	r := newHost(t, "REDIS_URL=redis://"+redistest.Refusing(t)).examine(t)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Version, Worst string
		Usable         *bool  `json:"configuration_usable"`
		TookMS         *int64 `json:"took_ms"`
		StartedAt      string `json:"started_at"`
		Findings       []map[string]string
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != "test" || got.Worst != "error" || got.Usable == nil || !*got.Usable || got.TookMS == nil || got.StartedAt == "" || len(got.Findings) < 10 {
		t.Errorf("%s", text)
	}
	for _, f := range got.Findings {
		if !slices.Contains(doctor.Checks(), f["check"]) || f["id"] == "" || f["found"] == "" || !slices.Contains([]string{"ok", "note", "warning", "error"}, f["level"]) {
			t.Errorf("%v", f)
		}
		if (f["level"] == "error" || f["level"] == "warning") && f["do"] == "" {
			t.Errorf("%s does not say what to do: %s", f["id"], f["found"])
		}
	}
}

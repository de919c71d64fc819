package main

import (
	"os"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// Every key has its row with all that the structs say of it, and the variables that other programs use too have theirs.
func TestPageHasEveryKey(t *testing.T) {
	data, err := os.ReadFile("../../" + pagePath)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	rows := make(map[string]string)
	for line := range strings.Lines(text) {
		if key, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(key, "`")
			if rows[name] != "" {
				t.Errorf("%s has two rows", name)
			}
			rows[name] = line
		}
	}
	for _, k := range config.Keys() {
		wanted := append([]string{k.Env, k.Default, k.Min, k.Max}, k.OneOf...)
		wanted = append(wanted, k.Aliases...)
		for _, want := range wanted {
			if want != "" && !strings.Contains(rows[k.Path], "`"+want+"`") {
				t.Errorf("the row of %s does not say %q: %s", k.Path, want, rows[k.Path])
			}
		}
		if rows[k.Path] == "" || !strings.Contains(rows[k.Path], cell(k.Usage)) {
			t.Errorf("the row of %s does not say what it is", k.Path)
		}
		for _, name := range k.Shared {
			if !strings.Contains(rows[name], "sets `"+k.Path+"`") {
				t.Errorf("%s sets %s, its row says: %s", name, k.Path, rows[name])
			}
		}
	}
	for _, name := range []string{
		"GRPC_PORT", "GRPC_BIND_ADDRESS", "REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD", "FLY_APP_NAME",
		"FLY_MACHINE_ID", "FLY_REGION", "FLY_PRIVATE_IP", "FLY_PROCESS_GROUP", "FLY_IMAGE_REF", "FLY_VM_MEMORY_MB",
	} {
		if rows[name] == "" {
			t.Errorf("%s has no row", name)
		}
	}
}

// The page is what would be written now.
func TestPageIsCurrent(t *testing.T) {
	t.Chdir("../..")
	if err := run(true); err != nil {
		t.Error(err)
	}
}

func TestMarkdown(t *testing.T) {
	for text, want := range map[string]string{
		"One line.":       "One line.",
		"Two\nlines <x>.": "Two\n  lines &lt;x>.",
		"What:\n  a    is one\n       thing\n  b c  is\nThat is all.": "What:\n  - `a`: is one thing\n  - `b c`: is\n\n  That is all.",
	} {
		if got := markdown(text, "  "); got != want {
			t.Errorf("%q becomes\n%q, want\n%q", text, got, want)
		}
	}
}

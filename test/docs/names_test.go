package docs_test

import (
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/pkg/config"
)

// pages are all Markdown files that people read, by path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*/README.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.ToSlash(name)] = string(text)
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d pages were found", len(all))
	}
	return all
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for name, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			file := path.Join(path.Dir(name), target)
			if _, err := os.Stat(filepath.Join(root, file)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, m[1])
			}
		}
	}
}

// spans are what stands between backticks, in a line or in a block.
var spans = regexp.MustCompile("(?s)```.*?```|`[^`\n]+`")

var dotted = regexp.MustCompile(`\b[a-z_]+(?:\[\])?(?:\.[a-z_-]+(?:\[\])?)+\b`)

// A key that a page names is a key, or a group of them.
func TestKeysThatPagesNameExist(t *testing.T) {
	known := make(map[string]bool)
	top := make(map[string]bool)
	for _, k := range config.Keys() {
		for p := k.Path; p != ""; {
			known[strings.ReplaceAll(p, "[]", "")] = true
			i := strings.LastIndexByte(p, '.')
			if i < 0 {
				break
			}
			p = p[:i]
		}
		first, rest, _ := strings.Cut(strings.ReplaceAll(k.Path, "[]", ""), ".")
		if rest != "" {
			top[first] = true
		}
	}
	variables := regexp.MustCompile(`\bFLYPROXY_[A-Z0-9_]+\b`)
	env := []string{"FLYPROXY_CONFIG", "FLYPROXY_ADDR", "FLYPROXY_IMAGE"} // the file's; two that belong to the examples
	for _, k := range config.Keys() {
		env = append(env, k.Env)
	}
	findings := literals(t, "pkg/doctor/*.go", `"([a-z]+\.[a-z-]+)"`) // what flyproxy doctor finds has names of the same form
	named := 0
	for name, text := range pages(t) {
		for _, span := range spans.FindAllString(text, -1) {
			for _, key := range dotted.FindAllString(span, -1) {
				plain := strings.ReplaceAll(key, "[]", "")
				first, _, _ := strings.Cut(plain, ".")
				if !top[first] || strings.HasSuffix(plain, ".go") || findings[plain] {
					continue
				}
				named++
				if !known[plain] {
					t.Errorf("%s names the key %s, which there is not", name, key)
				}
			}
			for _, v := range variables.FindAllString(span, -1) {
				named++
				if !slices.Contains(env, v) && !strings.HasSuffix(v, "_") {
					t.Errorf("%s names the variable %s, which there is not", name, v)
				}
			}
		}
	}
	if named < 30 {
		t.Errorf("only %d keys were found in the pages: is the search right?", named)
	}
}

// literals are the strings in sources that a pattern finds.
func literals(t *testing.T, files, pattern string) map[string]bool {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join(root, files))
	if err != nil || len(sources) == 0 {
		t.Fatalf("%s: %v, %v", files, sources, err)
	}
	found := make(map[string]bool)
	quoted := regexp.MustCompile(pattern)
	for _, file := range sources {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
			found[m[1]] = true
		}
	}
	return found
}

// A metric that a page names can be scraped.
func TestMetricsThatPagesNameExist(t *testing.T) {
	declared := literals(t, "pkg/telemetry/*.go", `"(flyproxy_[a-z_]+)"`)
	metric := regexp.MustCompile(`\bflyproxy_[a-z_]+[a-z]\b`)
	named := 0
	for name, text := range pages(t) {
		for _, span := range spans.FindAllString(text, -1) {
			for _, one := range metric.FindAllString(span, -1) {
				named++
				if !declared[one] && !declared[strings.TrimSuffix(one, "_count")] {
					t.Errorf("%s names the metric %s, which there is not", name, one)
				}
			}
		}
	}
	if named == 0 {
		t.Error("no page names a metric: is the search right?")
	}
}

// A command that a page tells to run is one, with those flags.
func TestCommandsThatPagesNameExist(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "flyproxy")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, root+"/cmd/flyproxy").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	help := make(map[string]string)
	ask := func(command string) string {
		if _, asked := help[command]; !asked {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			out, err := exec.CommandContext(ctx, bin, append(strings.Fields(command), "--help")...).CombinedOutput()
			if err != nil {
				out = nil
			}
			help[command] = string(out)
		}
		return help[command]
	}
	call := regexp.MustCompile(`(?m)(?:^|["'(/]|&& |` + "`" + `)flyproxy (config [a-z]+|[a-z]+)((?: --?[a-z][a-z-]*(?:[= ][^-\s"` + "`" + `]+)?)*)`)
	flag := regexp.MustCompile(`--[a-z][a-z-]*`)
	named := 0
	for name, text := range pages(t) {
		for _, span := range spans.FindAllString(text, -1) {
			for _, m := range call.FindAllStringSubmatch(span, -1) {
				if strings.Contains(span, "COPY") {
					continue
				}
				named++
				said := ask(m[1])
				if said == "" || !strings.Contains(said, "flyproxy "+m[1]) {
					t.Errorf("%s names the command flyproxy %s, which there is not", name, m[1])
					continue
				}
				for _, f := range flag.FindAllString(m[2], -1) {
					if !strings.Contains(said, f+" ") && !strings.Contains(said, f+"\n") {
						t.Errorf("%s names %s of flyproxy %s, which there is not", name, f, m[1])
					}
				}
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d commands were found in the pages: is the search right?", named)
	}
}

package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flyproxy/flyproxy/pkg/config"
)

const root = "../.."

// block is a fenced block of a page.
type block struct {
	line   int
	lang   string
	origin string // of the comment in the line above: file#region
	text   string
}

// blocks are a page's fenced blocks. A block in a list item has the item's indentation, which is no part of its text.
func blocks(page string) (all []block, err error) {
	lines := strings.Split(page, "\n")
	for i := 0; i < len(lines); i++ {
		text := strings.TrimLeft(lines[i], " ")
		lang, opens := strings.CutPrefix(text, "```")
		if !opens {
			continue
		}
		indent := strings.Repeat(" ", len(lines[i])-len(text))
		b := block{line: i + 1, lang: lang}
		if i > 0 {
			if o, ok := strings.CutPrefix(strings.TrimSpace(lines[i-1]), "<!-- "); ok {
				b.origin = strings.TrimSuffix(o, " -->")
			}
		}
		var inside []string
		for i++; ; i++ {
			if i >= len(lines) {
				return nil, fmt.Errorf("line %d: the block does not end", b.line)
			}
			if strings.TrimLeft(lines[i], " ") == "```" {
				break
			}
			inside = append(inside, strings.TrimPrefix(lines[i], indent))
		}
		b.text = strings.Join(inside, "\n")
		all = append(all, b)
	}
	return all, nil
}

// region gives what stands in a source between the comments "region: name" and "endregion", without its common indentation.
func region(source, name string) (string, error) {
	var inside []string
	in := false
	for line := range strings.Lines(source) {
		line = strings.TrimRight(line, "\n")
		comment := strings.TrimLeft(line, " \t/#")
		switch {
		case comment == "region: "+name && comment != line:
			in = true
		case comment == "endregion" && comment != line && in:
			return dedent(inside), nil
		case in:
			inside = append(inside, line)
		}
	}
	return "", fmt.Errorf("it has no region %q that ends", name)
}

func dedent(lines []string) string {
	least := -1
	for _, l := range lines {
		if n := len(l) - len(strings.TrimLeft(l, " \t")); strings.TrimSpace(l) != "" && (least < 0 || n < least) {
			least = n
		}
	}
	for i, l := range lines {
		lines[i] = l[min(max(least, 0), len(l)):]
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// faults are what is wrong with a page's blocks. Code must be a region of a file that is compiled or run elsewhere; variables must be
// an environment that flyproxy takes on Fly.
func faults(page string) (found []string) {
	all, err := blocks(page)
	if err != nil {
		return []string{err.Error()}
	}
	for _, b := range all {
		if err := b.fault(); err != nil {
			found = append(found, fmt.Sprintf("line %d: %v", b.line, err))
		}
	}
	return found
}

func (b block) fault() error {
	if b.lang == "env" {
		environ := append([]string{
			"FLY_APP_NAME=battle", "FLY_MACHINE_ID=148e", "FLY_REGION=ams", "FLY_PRIVATE_IP=fdaa:0:1::2", "REDIS_HOST=redis.example",
		}, strings.Fields(b.text)...)
		_, err := config.Load(config.Options{Environ: environ, ReadFile: func(string) ([]byte, error) { return nil, os.ErrNotExist }})
		return err
	}
	file, name, ok := strings.Cut(b.origin, "#")
	if !ok {
		return fmt.Errorf("a block of %q must say in a comment above it of which region it is: <!-- file#region -->", b.lang)
	}
	source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	if err != nil {
		return err
	}
	want, err := region(string(source), name)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if b.text != want {
		return fmt.Errorf("it is not what %s has in region %q:\n%s", file, name, want)
	}
	return nil
}

// The page's code is that of the examples, which the end-to-end tests compile and run.
func TestMigrationShowsTheExamples(t *testing.T) {
	page := read(t, "docs/migration.md")
	for _, f := range faults(page) {
		t.Error("docs/migration.md: ", f)
	}
	all, err := blocks(page)
	if err != nil {
		t.Fatal(err)
	}
	var langs []string
	for _, b := range all {
		langs = append(langs, b.lang)
	}
	for _, want := range []string{"ts", "go", "dockerfile", "env"} {
		if !slices.Contains(langs, want) {
			t.Errorf("it has no block of %s", want)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The check itself: what must be found is.
func TestFaultsAreFound(t *testing.T) {
	right, err := region(read(t, "examples/go/client.go"), "connect")
	if err != nil {
		t.Fatal(err)
	}
	fence := func(origin, lang, text string) string {
		return "1. text\n\n   " + origin + "\n   ```" + lang + "\n   " + strings.ReplaceAll(text, "\n", "\n   ") + "\n   ```\n"
	}
	for _, tc := range []struct{ page, want string }{
		{fence("<!-- examples/go/client.go#connect -->", "go", right), ""},
		{fence("<!-- examples/go/client.go#connect -->", "go", right+" // or so"), "is not what examples/go/client.go has"},
		{fence("<!-- examples/go/client.go#nothing -->", "go", right), `no region "nothing"`},
		{fence("<!-- examples/go/nothing.go#connect -->", "go", right), "nothing.go"},
		{fence("", "go", right), "must say in a comment"},
		{fence("", "env", "FLYPROXY_SERVICE=battle"), ""},
		{fence("", "env", "FLYPROXY_SERVISE=battle"), "FLYPROXY_SERVICE"},
		{"```go\n", "does not end"},
	} {
		got := strings.Join(faults(tc.page), "\n")
		if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("of\n%s\nfound %q, want %q", tc.page, got, tc.want)
		}
	}
}

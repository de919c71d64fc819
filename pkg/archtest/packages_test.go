package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module is the prefix of all our packages.
const module = "github.com/flyproxy/flyproxy/"

// pack is what `go list` says of one package.
type pack struct {
	ImportPath string
	Name       string
	Doc        string
	Dir        string
	// Imports and Deps are those of the package without its tests; Deps are transitive.
	Imports []string
	Deps    []string
	GoFiles []string
	Error   *struct{ Err string }
}

// room is the package's path within the module, such as pkg/routing.
func (p *pack) room() string { return strings.TrimPrefix(p.ImportPath, module) }

// supportsTests tells whether the package exists for tests alone.
func (p *pack) supportsTests() bool {
	return strings.HasPrefix(p.room(), "test/") || strings.HasSuffix(p.room(), "test")
}

// within tells whether a room is dir or lies below it.
func within(room, dir string) bool { return room == dir || strings.HasPrefix(room, dir+"/") }

// ours gives the room of an import path of this module.
func ours(path string) (room string, ok bool) { return strings.CutPrefix(path, module) }

// standard tells whether an import path is of the standard library: its first element has no dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// packages are all packages of the module for this platform.
func packages(t *testing.T) []*pack {
	t.Helper()
	look(t)
	var all []*pack
	goList(t, &all, "-e", "-json=ImportPath,Name,Doc,Dir,Imports,Deps,GoFiles,Error", module+"...")
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// look reads every directory of the module itself. `go test` notices what a test has opened and runs it again when that changes;
// what `go list` reads in its own process it does not notice, and would show an old result.
func look(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if name := d.Name(); err == nil && d.IsDir() && (name == ".git" || name == "node_modules" || name == "bin") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goList appends what `go list` prints, a series of JSON values, to into.
func goList[T any](t *testing.T, into *[]T, args ...string) {
	t.Helper()
	var complaint bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v: %s", strings.Join(args, " "), err, complaint.String())
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var v T
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(fmt.Errorf("go list %s: %w", strings.Join(args, " "), err))
		}
		*into = append(*into, v)
	}
}

// Every package says what it is for, in the way that `go doc` shows.
func TestEveryPackageHasADocComment(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue // Tests alone.
		}
		want := "Package " + p.Name
		if p.Name == "main" {
			want = "Command "
		}
		switch {
		case p.Doc == "":
			t.Errorf("%s has no package comment: begin one with %q", p.room(), want)
		case !strings.HasPrefix(p.Doc, want):
			t.Errorf("the package comment of %s begins with %q, want %q", p.room(), firstWords(p.Doc), want)
		}
	}
}

func firstWords(s string) string {
	words := strings.Fields(s)
	return strings.Join(words[:min(2, len(words))], " ")
}

// `go get github.com/mwitkow/grpc-proxy@latest` gives a commit of 2018, silently: the newest tag that the repository has is
// v0.0.0 of then, and a tag beats any later commit. It speaks to a long gone version of grpc-go. So the commit is named.
func TestGRPCProxyIsNotTheCommitOf2018(t *testing.T) {
	look(t)
	const path, pinned = "github.com/mwitkow/grpc-proxy", "v0.0.0-20250813121105-2866842de9a5"
	var found []struct {
		Version string
		Replace *struct{ Path, Version string }
	}
	goList(t, &found, "-m", "-json=Version,Replace", path)
	if len(found) != 1 || found[0].Version != pinned || found[0].Replace != nil {
		t.Errorf("go.mod has %+v of %s, want %s and no replacement: `@latest` silently gives a commit of 2018, so run `go get %s@%s`",
			found, path, pinned, path, pinned)
	}
}

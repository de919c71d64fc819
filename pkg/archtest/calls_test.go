package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ban is a name of another package that code may not use.
type ban struct {
	pkg   string
	names []string
	// in are the directories where the ban holds; elsewhere the name is fine.
	in  []string
	why string
}

var bans = []ban{
	{
		pkg: "time", names: []string{"After", "Tick"}, in: []string{"pkg", "cmd"},
		why: "its timer cannot be stopped; use time.NewTimer and stop it",
	},
	{
		pkg: "time", names: []string{"Sleep"}, in: []string{"pkg", "cmd"},
		why: "nothing can end it early; wait for a timer and for the context",
	},
	{
		pkg: "net/http", names: []string{"DefaultClient", "Get", "Head", "Post", "PostForm"}, in: []string{"pkg", "cmd"},
		why: "the default client has no time limit",
	},
	{
		pkg: "os", names: []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, in: []string{"pkg"},
		why: "the environment is a parameter that cmd hands down",
	},
	{
		pkg: "fmt", names: []string{"Print", "Printf", "Println"}, in: []string{"pkg"},
		why: "standard output belongs to cmd; write to an io.Writer that was given",
	},
	{
		pkg: "log", names: nil, in: []string{"pkg", "cmd"},
		why: "log/slog is the only way of logging",
	},
}

// Test helpers in packages of their own are tests too, and generated code is what its generator makes it.
func exempt(p *pack, file *ast.File) bool { return p.supportsTests() || ast.IsGenerated(file) }

func TestBannedCalls(t *testing.T) {
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Error(err)
				continue
			}
			if exempt(p, file) {
				continue
			}
			for _, fault := range faults(fset, p.room(), file) {
				t.Error(fault)
			}
		}
	}
}

// faults are the uses of what is banned in a file of a room.
func faults(fset *token.FileSet, room string, file *ast.File) []string {
	var found []string
	fault := func(n ast.Node, format string, args ...any) {
		at := fset.Position(n.Pos())
		found = append(found, fmt.Sprintf("%s/%s:%d: ", room, filepath.Base(at.Filename), at.Line)+fmt.Sprintf(format, args...))
	}
	imported := importNames(file)
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt: // WaitGroup.Go names its owner by itself, who waits for it
			if _, anonymous := n.Call.Fun.(*ast.FuncLit); anonymous && within(room, "pkg") {
				fault(n, "a go statement starts a function without a name; name it and say who owns and who awaits it")
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			for _, b := range bans {
				if imported[x.Name] == b.pkg && (b.names == nil || slices.Contains(b.names, n.Sel.Name)) &&
					slices.ContainsFunc(b.in, func(dir string) bool { return within(room, dir) }) {
					fault(n, "%s.%s: %s", x.Name, n.Sel.Name, b.why)
				}
			}
		}
		return true
	})
	return found
}

// importNames are the names under which a file uses what it imports.
func importNames(file *ast.File) map[string]string {
	names := make(map[string]string)
	for _, i := range file.Imports {
		importPath, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(importPath)
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = importPath
	}
	return names
}

// The check itself: what must be found is.
func TestBannedCallsAreFound(t *testing.T) {
	const code = `package p

import (
	"fmt"
	"log"
	web "net/http"
	"os"
	"time"
)

func f() {
	<-time.After(1)
	time.Sleep(1)
	_ = web.DefaultClient
	_ = os.Getenv("A")
	fmt.Println()
	log.Print()
	go func() {}()
	go f()
	_ = time.Now().After(time.Time{})
	_ = fmt.Sprint()
}
`
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", code, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for room, want := range map[string][]int{
		"pkg/p": {12, 13, 14, 15, 16, 17, 18},
		"cmd/p": {12, 13, 14, 17},
		"tools": nil,
	} {
		var lines []int
		for _, f := range faults(fset, room, file) {
			line, err := strconv.Atoi(strings.Split(f, ":")[1])
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
		}
		if !slices.Equal(lines, want) {
			t.Errorf("in %s: found in lines %v, want %v", room, lines, want)
		}
	}
}

package conformance_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write docs/transparency.md anew")

var (
	docs      = filepath.Join("..", "..", "docs")
	tablePath = filepath.Join(docs, "transparency.md")
)

// table holds the results by engine and case.
type table struct {
	// mu guards cells.
	mu    sync.Mutex
	cells map[string]result
}

func newTable() *table { return &table{cells: make(map[string]result)} }

func (tb *table) put(engine, name string, r result) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.cells[engine+"/"+name] = r
}

func (tb *table) get(engine, name string) result {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return tb.cells[engine+"/"+name]
}

const introduction = `# What a transparent gRPC proxy owes, and what is kept

This page is written by a test: ` + "`go test ./test/conformance`" + ` runs each line with a scripted HTTP/2 client and server that work on raw
frames, once without a proxy (*direct*, which shows that the line itself is right) and once through each engine. It fails when a result is
not the one below, for better or worse; ` + "`-update`" + ` writes the page anew.

- **pass**: it holds.
- **limit**: it does not, in the way that is said. What stands behind the limits of ` + "`engine: grpc`" + ` is in [engine-grpc-limits.md](engine-grpc-limits.md).
- **n.a.**: it makes no sense without a proxy.

The sources are gRPC's PROTOCOL-HTTP2, RFC 9113 and gRFCs A6, A8 and A54. *At once* is not a measure of time here: it means that the other
side need not do anything more for it.
`

const outlook = `
Each line under *Abuse* also shows that an open call and new calls of other clients do not suffer, and that memory stays in bounds while the
abuser's connection stands.

Not in this table: that trouble of the registry is no call's error, and peers that vanish without a word (test/e2e); silence of 60 seconds
with the servers of several languages (test/interop); retries that configuration allows, each limit by its value, and 100,000 idle streams
(pkg/relay).
`

// String is the page.
func (tb *table) String() string {
	var b strings.Builder
	b.WriteString(introduction)
	for _, sec := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n| case | must |", sec.Title)
		for _, en := range engines {
			fmt.Fprintf(&b, " %s |", en.Name)
		}
		b.WriteString("\n|---|---|" + strings.Repeat("---|", len(engines)) + "\n")
		for _, tc := range sec.Cases {
			fmt.Fprintf(&b, "| %s | %s |", tc.Name, tc.Line)
			for _, en := range engines {
				fmt.Fprintf(&b, " %s |", escape(tb.get(en.Name, tc.Name)))
			}
			b.WriteString("\n")
		}
	}
	b.WriteString(outlook)
	return b.String()
}

// escape keeps a cell in its column and on its line.
func escape(r result) string {
	return strings.NewReplacer("|", `\|`, "\r", " ", "\n", " ").Replace(string(r))
}

// readTable reads the results that the page says.
func readTable(t *testing.T) *table {
	tb := newTable()
	page, err := os.ReadFile(tablePath)
	if os.IsNotExist(err) && *update {
		return tb
	}
	if err != nil {
		t.Fatal(err)
	}
	var columns []string
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "| "), " | ")
		switch {
		case !strings.HasPrefix(line, "| ") || len(cells) < 3:
		case cells[0] == "case":
			columns = cells[2:]
		default:
			for i, r := range cells[2:] {
				if i < len(columns) {
					tb.cells[columns[i]+"/"+cells[0]] = result(strings.ReplaceAll(r, `\|`, "|"))
				}
			}
		}
	}
	return tb
}

// finish writes the page or compares it, unless -run has left out some cases.
func (tb *table) finish(t *testing.T, want *table) {
	for _, sec := range sections {
		for _, tc := range sec.Cases {
			for _, en := range engines {
				if tb.get(en.Name, tc.Name) != "" {
					continue
				}
				if !*update {
					return
				}
				tb.put(en.Name, tc.Name, want.get(en.Name, tc.Name))
			}
		}
	}
	page := tb.String()
	if *update {
		if err := os.WriteFile(tablePath, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	old, err := os.ReadFile(tablePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(old) != page && !t.Failed() {
		t.Errorf("%s is not what the cases say: run go test ./test/conformance -update", tablePath)
	}
}

// Names are what table and -run go by.
func TestCasesAreUnique(t *testing.T) {
	lines := make(map[string]bool)
	for _, sec := range sections {
		for _, tc := range sec.Cases {
			if lines[tc.Name] || lines[tc.Line] {
				t.Errorf("%s is there twice", tc.Name)
			}
			lines[tc.Name], lines[tc.Line] = true, true
		}
	}
}

// A limit of an engine is explained by a row of the page that lists its limits, and what is explained is a limit.
func TestLimitsAreExplained(t *testing.T) {
	results := readTable(t)
	for _, en := range engines {
		if en.LimitsDoc == "" {
			continue
		}
		page, err := os.ReadFile(filepath.Join(docs, en.LimitsDoc))
		if err != nil {
			t.Fatal(err)
		}
		for _, sec := range sections {
			for _, tc := range sec.Cases {
				row, explained := en.Limits[tc.Name]
				if limited := strings.HasPrefix(string(results.get(en.Name, tc.Name)), "limit"); limited != explained {
					t.Errorf("%s: %s is a limit: %v, explained: %v", en.Name, tc.Name, limited, explained)
				}
				if !strings.Contains(string(page), "`"+row+"`") && row != unlisted && explained {
					t.Errorf("%s: %s has no row of %s", en.Name, tc.Name, row)
				}
			}
		}
	}
}

// unlisted marks a limit for which the page has no row.
const unlisted = ""

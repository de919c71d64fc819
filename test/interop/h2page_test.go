package interop_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write docs/h2spec.md anew")

var h2pagePath = filepath.Join("..", "..", "docs", "h2spec.md")

// h2page is docs/h2spec.md.
type h2page struct {
	// mu guards passed.
	mu     sync.Mutex
	passed map[string]bool // by plane and case
}

func newH2page() *h2page { return &h2page{passed: make(map[string]bool)} }

func (p *h2page) put(pl plane, tc h2case, passed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed[pl.Name+" "+tc.ID] = passed
}

// finish writes the page, or compares it with what is there. Where -run has left out cases it does nothing.
func (p *h2page) finish(t *testing.T) {
	for _, pl := range h2specPlanes {
		for _, side := range h2sides {
			for _, tc := range side.Cases {
				if _, ran := p.passed[pl.Name+" "+tc.ID]; !ran {
					return
				}
			}
		}
	}
	if *update {
		if err := os.WriteFile(h2pagePath, []byte(p.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	old, err := os.ReadFile(h2pagePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(old) != p.String() && !t.Failed() {
		t.Errorf("%s is not what h2spec says: run go test ./test/interop -run H2spec -update", h2pagePath)
	}
}

const h2introduction = `# h2spec

This page is written by a test: ` + "`go test ./test/interop -run H2spec`" + ` runs every case of h2spec 2.2.1
(github.com/summerwind/h2spec), the strict ones too, against each data plane, and fails when a result is not the one below, for
better or worse; ` + "`-update`" + ` writes the page anew. h2spec has two halves: it is a client to the listener, with an app behind
the data plane that gives a gRPC answer to any request, and it is the app to which the data plane connects for a call. The stream
limit is set to 100, because h2spec opens one stream more than it.

h2spec checks RFC 7540. Where RFC 9113 has changed that, the latter counts.
`

// String is the page.
func (p *h2page) String() string {
	var b strings.Builder
	b.WriteString(h2introduction)
	for _, side := range h2sides {
		fmt.Fprintf(&b, "\n## %s\n\n| section |", side.Title)
		for _, pl := range h2specPlanes {
			fmt.Fprintf(&b, " %s |", pl.Name)
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(h2specPlanes)) + "\n")
		var groups []string
		members := make(map[string][]h2case)
		for _, tc := range side.Cases {
			key, _, _ := strings.Cut(tc.ID, "/")
			name := key + ": " + tc.Group
			if members[name] == nil {
				groups = append(groups, name)
			}
			members[name] = append(members[name], tc)
		}
		for _, name := range append(groups, "all") {
			cases := members[name]
			if name == "all" {
				cases = side.Cases
			}
			fmt.Fprintf(&b, "| %s |", name)
			for _, pl := range h2specPlanes {
				fmt.Fprintf(&b, " %d of %d |", p.count(pl, cases), len(cases))
			}
			b.WriteString("\n")
		}
		for _, pl := range h2specPlanes {
			p.exceptions(&b, pl, side)
		}
	}
	return b.String()
}

func (p *h2page) count(pl plane, cases []h2case) (n int) {
	for _, tc := range cases {
		if p.passed[pl.Name+" "+tc.ID] {
			n++
		}
	}
	return n
}

// exceptions lists the cases that do not pass, and why.
func (p *h2page) exceptions(b *strings.Builder, pl plane, side h2side) {
	if p.count(pl, side.Cases) == len(side.Cases) {
		return
	}
	fmt.Fprintf(b, "\nWhat does not pass on `engine: %s`:\n\n", pl.Name)
	b.WriteString("| case | what h2spec does | why it does not pass |\n|---|---|---|\n")
	for _, tc := range side.Cases {
		if !p.passed[pl.Name+" "+tc.ID] {
			fmt.Fprintf(b, "| %s | %s | %s |\n", tc.ID, tc.Title, h2reason(pl, tc))
		}
	}
}

// Every reason is for a case that exists.
func TestH2reasonsAreOfCases(t *testing.T) {
	known := make(map[string]bool)
	for _, pl := range h2specPlanes {
		for _, side := range h2sides {
			for _, tc := range side.Cases {
				known[pl.Name+" "+tc.ID] = true
			}
		}
	}
	for plane, byCase := range h2reasons {
		for id := range byCase {
			if !known[plane+" "+id] {
				t.Errorf("%s has no case %s", plane, id)
			}
		}
	}
}

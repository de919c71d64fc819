package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The files that a run writes.
const (
	pageName  = "benchmarks.md"
	chartName = "benchmarks.svg"
)

// What stands between these lines of the page is written by hand and kept when the page is written anew.
const (
	notesBegin = "<!-- Written by hand from here on; kept when this page is written anew. -->"
	notesEnd   = "<!-- To here. -->"
)

const noNotes = "\nNothing has been written about this run yet.\n"

// writePage writes the page and the chart into dir.
func writePage(dir string, r *results) error {
	file := filepath.Join(dir, pageName)
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	notes, err := keptNotes(string(old))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := os.WriteFile(filepath.Join(dir, chartName), chart(newTable(r)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(file, page(newTable(r), notes), 0o644)
}

// keptNotes gives what was written by hand into a page. Better no new page than notes that are lost.
func keptNotes(old string) (string, error) {
	if old == "" {
		return noNotes, nil
	}
	_, rest, begins := strings.Cut(old, notesBegin)
	notes, _, ends := strings.Cut(rest, notesEnd)
	if !begins || !ends {
		return "", fmt.Errorf("the lines around the notes are gone, so they would be lost: put back %q and %q", notesBegin, notesEnd)
	}
	return notes, nil
}

// page is the whole page.
func page(t *table, notes string) []byte {
	var b bytes.Buffer
	r := t.results
	b.WriteString("# Benchmarks\n\n")
	paragraph(&b, "", fmt.Sprintf("flyproxy beside other proxies, in one run: each cell with each of them in turn, round after round. "+
		"The program in [bench/](../bench/main.go) writes this page; do not edit it outside of the notes at its end. The figures are "+
		"medians of %d rounds, of %s.", r.Rounds, r.Machine.Date.Format("2006-01-02")))
	if r.Plan != full().name {
		paragraph(&b, "> ", fmt.Sprintf("**This is a %s run**: short times and few rounds. Differences of 10–20 %% are noise here, and "+
			"p99.9 says little.", r.Plan))
	}
	writeSettings(&b, t)
	fmt.Fprintf(&b, "![CPU time in the proxy per call](%s)\n\n", chartName)
	writeRatios(&b, t)
	for _, g := range groups(planNamed(r.Plan)) {
		writeGroup(&b, t, g)
	}
	fmt.Fprintf(&b, "## What lost, and why\n\n%s%s%s\n", notesBegin, notes, notesEnd)
	return b.Bytes()
}

func writeSettings(b *bytes.Buffer, t *table) {
	r := t.results
	m := r.Machine
	bench := "bench/install.sh && " + r.Command
	fmt.Fprintf(b, "```sh\n%s\n```\n\n", bench)
	fmt.Fprintf(b, "Machine: %d cores, %s, %s, Linux %s, Go %s, grpc-go %s. All on loopback.\n\n",
		m.Cores, m.CPU, m.System, m.Kernel, m.Go, r.Versions["grpc-go"])
	fmt.Fprintf(b, "| | version | configuration |\n|---|---|---|\n")
	for _, s := range t.subjects {
		version, config := "", ""
		if s.config != "" {
			version = r.Versions[s.id]
			config = fmt.Sprintf("[%s](../bench/configs/%s)", s.config, s.config)
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", s.title, version, config)
	}
	fmt.Fprintln(b)
	for _, l := range r.LeftOut {
		fmt.Fprintf(b, "Left out: %s.\n\n", l)
	}
	connections := "one connection, as a gRPC app has to its sidecar"
	if r.Connections != 1 {
		connections = fmt.Sprintf("%d connections", r.Connections)
	}
	b.WriteString("How to read it:\n\n")
	for _, item := range []string{
		"Client and peers are grpc-go, in processes of their own. Every call has a deadline. The client has " + connections +
			", unless a table says otherwise; so a proxy that works on a connection with one thread works with one.",
		fmt.Sprintf("All processes share the %d cores, load generator included: calls per second are what is left when it has taken its "+
			"share. CPU is user and system time of the proxy's processes alone while the calls were counted, from /proc, and is the figure "+
			"to compare. \"Too little\" is less than %s in all, which /proc does not tell exactly.", m.Cores, inWords(leastCPU)),
		"Memory is VmRSS; for nginx, which has several processes, their sum, with what they share counted in each. A process goes " +
			"through all cells of its stage, so it shows what earlier ones made it grow to.",
		"Each configuration says what differs from the proxy's defaults, and why. A cell with a single error does not count.",
	} {
		listItem(b, item)
	}
	b.WriteByte('\n')
}

// against are what flyproxy is compared with.
var against = []struct{ id, title string }{
	{"haproxy-tcp", "HAProxy, mode tcp"}, {"haproxy", "HAProxy"}, {"envoy", "Envoy"}, {"flyproxy-grpc", "engine grpc"},
}

// writeRatios compares each engine with others, cell by cell.
func writeRatios(b *bytes.Buffer, t *table) {
	for _, s := range t.subjects {
		if s.engine == "" {
			continue
		}
		fmt.Fprintf(b, "## flyproxy, engine %s, compared\n\n", s.engine)
		paragraph(b, "", "CPU in the proxy for the same work, as a multiple of what the other takes: below 1 flyproxy takes less; **bold** "+
			"where it takes more. The last column is the rate of calls or bytes as a share of that without a proxy.")
		b.WriteString("| |")
		for _, o := range against {
			if o.id != s.id {
				fmt.Fprintf(b, " vs %s |", o.title)
			}
		}
		fmt.Fprintf(b, " rate vs no proxy |\n|---%s|\n", strings.Repeat("|---:", len(t.columnsFor(s.id))))
		for _, g := range groups(planNamed(t.results.Plan)) {
			for _, c := range g.cells {
				if t.has(c.id, s.id) && c.stage != alone {
					writeRatioRow(b, t, g, c, s.id)
				}
			}
		}
		fmt.Fprintln(b)
	}
}

func writeRatioRow(b *bytes.Buffer, t *table, g group, c cell, id string) {
	name := g.title
	if c.column != "" {
		name += ", " + c.column
	}
	fmt.Fprintf(b, "| %s |", name)
	for _, o := range t.columnsFor(id) {
		words := none
		switch {
		case o == direct:
			if q, ok := t.ratio(c.id, id, o, workRate); ok {
				words = fmt.Sprintf("%.2f", q)
			}
		default:
			if q, ok := t.ratio(c.id, id, o, workCPU); ok {
				if words = fmt.Sprintf("%.2f", q); q > 1 {
					words = "**" + words + "**"
				}
			}
		}
		fmt.Fprintf(b, " %s |", words)
	}
	fmt.Fprintln(b)
}

// writeGroup writes a group's tables: a column per cell and a table per figure, or one table when there is only one cell.
func writeGroup(b *bytes.Buffer, t *table, g group) {
	if !t.hasAny(g) {
		return
	}
	fmt.Fprintf(b, "## %s\n\n", g.title)
	paragraph(b, "", g.about)
	if len(g.cells) == 1 {
		fmt.Fprint(b, "| |")
		for _, f := range g.figures {
			fmt.Fprintf(b, " %s |", f.title)
		}
		fmt.Fprintf(b, "\n|---%s|\n", strings.Repeat("|---:", len(g.figures)))
		for _, s := range t.rows(g) {
			fmt.Fprintf(b, "| %s |", s.title)
			for _, f := range g.figures {
				fmt.Fprintf(b, " %s |", t.text(g.cells[0].id, &s, f))
			}
			fmt.Fprintln(b)
		}
		fmt.Fprintln(b)
		return
	}
	for _, f := range g.figures {
		fmt.Fprintf(b, "| %s |", f.title)
		for _, c := range g.cells {
			fmt.Fprintf(b, " %s |", c.column)
		}
		fmt.Fprintf(b, "\n|---%s|\n", strings.Repeat("|---:", len(g.cells)))
		for _, s := range t.rows(g) {
			if f.proxyOnly && s.config == "" {
				continue
			}
			fmt.Fprintf(b, "| %s |", s.title)
			for _, c := range g.cells {
				fmt.Fprintf(b, " %s |", t.text(c.id, &s, f))
			}
			fmt.Fprintln(b)
		}
		fmt.Fprintln(b)
	}
}

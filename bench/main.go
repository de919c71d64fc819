// Command bench compares flyproxy with other proxies, side by side, in one run:
//
//	bench/install.sh         installs the other proxies
//	go run ./bench           everything, about 40 minutes; writes docs/benchmarks.md and docs/benchmarks.svg
//	go run ./bench -reduced  the same in about 6 minutes, for a look
//	go run ./bench -short    a few seconds; writes nothing and fails on broken runs only, never on times
//
// Every proxy and every peer is a process of its own on loopback; the load generator is this one. All take CPU from each other, so
// the figure to compare is the CPU time that the proxy's own processes spend on a call, and not only how many calls go through.
//
// A cell is measured with each subject in turn, round after round, and the page shows medians. A cell with a single error does not
// count. The client has one connection unless told otherwise, since that is what a gRPC app has to its sidecar.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() { os.Exit(start(os.Args[1:], os.Stderr)) }

// start gives the exit code: 0, 1 for a broken run, 64 for wrong usage.
func start(args []string, progress io.Writer) int {
	if len(args) == 1 && args[0] == peerArg {
		if err := servePeer(); err != nil {
			fmt.Fprintln(progress, err)
			return 1
		}
		return 0
	}
	o, err := parse(args, progress)
	if err != nil {
		return 64 // flag has said why
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.execute(ctx, progress); err != nil {
		fmt.Fprintf(progress, "bench: %v\n", err)
		return 1
	}
	return 0
}

// options are the command line.
type options struct {
	plan        plan
	connections int
	out         string // folder of the page and the chart; empty for none
	save, from  string // files of results
}

func parse(args []string, usage io.Writer) (*options, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	o := &options{plan: full()}
	isShort := flags.Bool("short", false, "tiny counts, to see that no cell is broken; writes no page")
	isReduced := flags.Bool("reduced", false, "shorter times and fewer rounds, for a look")
	rounds := flags.Int("rounds", 0, "how often each cell is measured with each subject (default: the form's own)")
	only := flags.String("subjects", "", "ids of the subjects to measure, separated by commas (default: all)")
	cells := flags.String("cells", "", "ids of the cells to measure, separated by commas (default: all)")
	flags.IntVar(&o.connections, "connections", 1, "the client's connections, 1 to 100")
	flags.StringVar(&o.out, "out", "", "folder to write benchmarks.md and benchmarks.svg to; - for none "+
		"(default: docs, but none for a choice of subjects or cells, which would replace a whole page by a part)")
	flags.StringVar(&o.save, "save", "", "file to write all samples to, as JSON")
	flags.StringVar(&o.from, "from", "", "file of samples to write the page from, instead of measuring")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case *isShort:
		o.plan, o.out = short(), "-"
	case *isReduced:
		o.plan = reduced()
	}
	if *rounds > 0 {
		o.plan.rounds = *rounds
	}
	if *only != "" {
		o.plan.subjects = strings.Split(*only, ",")
	}
	if *cells != "" {
		o.plan.cells = strings.Split(*cells, ",")
	}
	if o.out == "" {
		if o.out = "docs"; len(o.plan.subjects)+len(o.plan.cells) > 0 {
			o.out = "-"
		}
	}
	fault := o.check(flags.Args())
	if fault != nil {
		fmt.Fprintf(usage, "bench: %v\n", fault)
	}
	return o, fault
}

// check finds what flag does not.
func (o *options) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q: see -h", rest[0])
	}
	if o.connections < 1 || o.connections > 100 {
		return fmt.Errorf("-connections is %d: 1 to 100", o.connections)
	}
	if o.plan.rounds > 100 {
		return fmt.Errorf("-rounds is %d: 100 at most", o.plan.rounds)
	}
	var ids []string
	for _, g := range groups(o.plan) {
		for _, c := range g.cells {
			ids = append(ids, c.id)
		}
	}
	if err := known("-cells", o.plan.cells, ids); err != nil {
		return err
	}
	ids = nil
	for _, s := range subjects("", "") {
		ids = append(ids, s.id)
	}
	return known("-subjects", o.plan.subjects, ids)
}

// known tells which of the given ids does not exist.
func known(flag string, given, ids []string) error {
	for _, id := range given {
		if !wanted(ids, id) {
			return fmt.Errorf("%s: there is no %q; there are %s", flag, id, strings.Join(ids, ", "))
		}
	}
	return nil
}

// execute measures, or reads what was measured, and writes what was asked for.
func (o *options) execute(ctx context.Context, progress io.Writer) error {
	if err := checkHost(); err != nil {
		return err
	}
	found := &results{}
	if o.from != "" {
		text, err := os.ReadFile(o.from)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, found); err != nil {
			return fmt.Errorf("%s: %w", o.from, err)
		}
	} else {
		var err error
		if found, err = run(ctx, o.plan, o.connections, progress); err != nil {
			return err
		}
		found.Command = o.command()
	}
	if o.save != "" {
		text, err := json.MarshalIndent(found, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.save, append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	if o.out != "-" {
		if err := writePage(o.out, found); err != nil {
			return err
		}
		fmt.Fprintf(progress, "wrote %s and %s\n", filepath.Join(o.out, pageName), filepath.Join(o.out, chartName))
	}
	if broken := found.broken(); len(broken) > 0 {
		return errors.New("these do not count:\n  " + strings.Join(broken, "\n  "))
	}
	fmt.Fprintf(progress, "%d measurements, none broken\n", len(found.Samples))
	return nil
}

// command is how to have the same again.
func (o *options) command() string {
	words := []string{"go run ./bench"}
	if o.plan.name != full().name {
		words = append(words, "-"+o.plan.name)
	}
	for _, own := range []struct {
		given bool
		words string
	}{
		{o.plan.rounds != planNamed(o.plan.name).rounds, fmt.Sprintf("-rounds %d", o.plan.rounds)},
		{o.connections != 1, fmt.Sprintf("-connections %d", o.connections)},
		{len(o.plan.subjects) > 0, "-subjects " + strings.Join(o.plan.subjects, ",")},
		{len(o.plan.cells) > 0, "-cells " + strings.Join(o.plan.cells, ",")},
	} {
		if own.given {
			words = append(words, own.words)
		}
	}
	return strings.Join(words, " ")
}

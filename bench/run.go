package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"
)

// results are all that a run has found; the page is made from them alone.
type results struct {
	Plan        string            `json:"plan"`
	Rounds      int               `json:"rounds"`
	Connections int               `json:"connections"`
	Command     string            `json:"command"`
	Machine     machine           `json:"machine"`
	Subjects    []string          `json:"subjects"` // ids of those that ran, in the page's order
	Versions    map[string]string `json:"versions"`
	LeftOut     []string          `json:"left_out"` // each with its reason
	Samples     []sample          `json:"samples"`
}

// broken are the samples that do not count, in words.
func (r *results) broken() []string {
	var all []string
	for i := range r.Samples {
		if why := r.Samples[i].broken(); why != "" {
			s := &r.Samples[i]
			all = append(all, fmt.Sprintf("%s, %s, round %d: %d errors, %d calls: %s", s.Cell, s.Subject, s.Round, s.Errors, s.Calls, why))
		}
	}
	return all
}

// bench is one run.
type bench struct {
	plan        plan
	connections int
	progress    io.Writer
	root        string // of the project
	dir         string // for files of this run
	subjects    []subject
	results     results

	peers []string
	far   *delayer // in front of the first peer
	// closers end what was started, last first.
	closers []func()
}

// run measures everything that the plan says. It returns results also when some samples are broken; what it started has ended when
// it returns.
func run(ctx context.Context, p plan, connections int, progress io.Writer) (_ *results, err error) {
	b := &bench{plan: p, connections: connections, progress: progress}
	defer b.close()
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	for _, st := range stages {
		if err := b.runStage(ctx, st); err != nil {
			return nil, err
		}
	}
	return &b.results, nil
}

func (b *bench) close() {
	for _, f := range slices.Backward(b.closers) {
		f()
	}
	b.closers = nil
}

// prepare finds the subjects and starts the peers.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.root, err = projectRoot(ctx); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "flyproxy-bench-"); err != nil {
		return err
	}
	b.closers = append(b.closers, func() { _ = os.RemoveAll(b.dir) })
	flyproxy, err := buildFlyproxy(ctx, b.root, b.dir)
	if err != nil {
		return err
	}
	b.results = results{
		Plan: b.plan.name, Rounds: b.plan.rounds, Connections: b.connections, Machine: thisMachine(),
		Versions: map[string]string{"grpc-go": grpc.Version},
	}
	for _, s := range subjects(flyproxy, b.root) {
		switch {
		case !wanted(b.plan.subjects, s.id):
		case s.config != "" && s.program == "":
			b.leaveOut(&s, errNotInstalled)
		default:
			s.askVersion(ctx)
			b.subjects = append(b.subjects, s)
			b.results.Subjects = append(b.results.Subjects, s.id)
			b.results.Versions[s.id] = s.version
		}
	}
	for n := range 4 {
		peer, at, err := startPeer(ctx, b.dir, n)
		if err != nil {
			return err
		}
		b.closers = append(b.closers, peer.stop)
		b.peers = append(b.peers, at)
	}
	if b.far, err = newDelayer(b.peers[0], b.plan.roundTrip); err != nil {
		return err
	}
	b.closers = append(b.closers, func() { _ = b.far.Close() })
	return nil
}

func (b *bench) leaveOut(s *subject, why error) {
	b.results.LeftOut = append(b.results.LeftOut, fmt.Sprintf("%s: %v", s.title, why))
	fmt.Fprintf(b.progress, "left out: %s: %v\n", s.title, why)
}

// upstreams are the peers of a stage.
func (b *bench) upstreams(st stage) []string {
	switch st {
	case fourPeers:
		return b.peers
	case longPath:
		return []string{b.far.address()}
	}
	return b.peers[:1]
}

func (b *bench) cellsOf(st stage) []cell {
	var all []cell
	for _, g := range groups(b.plan) {
		for _, c := range g.cells {
			if c.stage == st && wanted(b.plan.cells, c.id) {
				all = append(all, c)
			}
		}
	}
	return all
}

// runStage measures the cells of a stage: in every round each cell with each subject in turn, so that what changes on the machine
// in the meantime changes for all of them.
func (b *bench) runStage(ctx context.Context, st stage) error {
	cells := b.cellsOf(st)
	if len(cells) == 0 {
		return nil
	}
	ready := make(map[string]*running)
	defer func() {
		for _, r := range ready {
			r.stop()
		}
	}()
	if st != alone {
		for _, s := range slices.Clone(b.subjects) {
			if st == fourPeers && !s.balances {
				continue
			}
			r, err := b.start(ctx, &s, st)
			if err != nil {
				return err
			}
			if r != nil {
				ready[s.id] = r
			}
		}
	}
	for round := range b.plan.rounds {
		for _, c := range cells {
			for _, s := range slices.Clone(b.subjects) {
				r := ready[s.id]
				if st == alone && s.id != direct {
					var err error
					if r, err = b.start(ctx, &s, st); err != nil {
						return err
					}
				}
				if r == nil {
					continue
				}
				err := b.measure(ctx, c, r, round+1)
				if st == alone {
					r.stop()
				}
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// start launches a subject; nil without an error for one that refuses, which is then left out from here on.
func (b *bench) start(ctx context.Context, s *subject, st stage) (*running, error) {
	r, err := launch(ctx, s, b.upstreams(st), b.dir)
	if refused, ok := errors.AsType[refusal](err); ok {
		b.leaveOut(s, refused)
		b.subjects = slices.DeleteFunc(b.subjects, func(o subject) bool { return o.id == s.id })
		b.results.Subjects = slices.DeleteFunc(b.results.Subjects, func(id string) bool { return id == s.id })
		return nil, nil
	}
	return r, err
}

// measure takes one sample. An error of the measurement itself makes the sample a broken one; only the end of ctx ends the run.
func (b *bench) measure(ctx context.Context, c cell, r *running, round int) error {
	limited, cancel := context.WithTimeout(ctx, b.plan.limit)
	defer cancel()
	connections := c.connections
	if connections == 0 {
		connections = b.connections
	}
	clients, err := dial(connections, r.targets)
	if err != nil {
		return err
	}
	defer clients.close()
	m := &measurement{sample: sample{Cell: c.id, Subject: r.id, Round: round}, plan: b.plan, proxy: r.proxy}
	began := time.Now()
	if err := c.run(limited, m, clients); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.Errors++
		if m.Failure == "" {
			m.Failure = err.Error()
		}
	}
	b.results.Samples = append(b.results.Samples, m.sample)
	words := fmt.Sprintf("%d calls in %v, %.1f µs of CPU each", m.Calls, m.Took.Round(time.Millisecond),
		float64(m.CPU.Microseconds())/float64(max(m.Calls, 1)))
	if why := m.broken(); why != "" {
		words = "BROKEN: " + why
		if r.proxy != nil {
			words += "\n" + r.proxy.output()
		}
	}
	fmt.Fprintf(b.progress, "round %d/%d  %-22s %-15s %s (%v)\n", round, b.plan.rounds, c.id, r.id, words,
		time.Since(began).Round(10*time.Millisecond))
	return nil
}

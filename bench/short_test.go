package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == peerArg {
		os.Exit(start(os.Args[1:], os.Stderr)) // the test program is the peer too, as the benchmark is
	}
	os.Exit(m.Run())
}

// needHost ends a test on a host that cannot be measured on: as a failure where nothing may be skipped.
func needHost(t *testing.T) {
	t.Helper()
	err := checkHost()
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
}

// The short form: every cell works with every subject that is here. How fast does not matter.
func TestShort(t *testing.T) {
	needHost(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	found, err := run(ctx, short(), 1, testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range found.broken() {
		t.Error(b)
	}
	for _, must := range []string{direct, "flyproxy-grpc"} {
		if !slices.Contains(found.Subjects, must) {
			t.Errorf("%s did not take part; left out: %q", must, found.LeftOut)
		}
	}
	measured := newTable(found)
	for _, g := range groups(short()) {
		for _, c := range g.cells {
			for _, s := range measured.subjects {
				// There is no memory to read without a proxy, and no way for a TCP proxy to spread the calls of a connection.
				if c.stage == alone && s.id == direct || c.stage == fourPeers && !s.balances {
					continue
				}
				if !measured.has(c.id, s.id) {
					t.Errorf("%s was not measured with %s", c.id, s.id)
				}
			}
		}
	}
	expectNoChildren(t)
}

// A run that is interrupted leaves nothing behind.
func TestInterruptedRunEndsWhatItStarted(t *testing.T) {
	needHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := short()
	p.subjects = []string{direct, "flyproxy-grpc"}
	p.measure = time.Hour
	p.limit = 2 * time.Hour
	p.cells = []string{"bulk", "unary-64-100B-4peers"} // the second would take an hour
	_, err := run(ctx, p, 1, &interrupter{after: "bulk                   flyproxy-grpc", cancel: cancel})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted run says %v", err)
	}
	expectNoChildren(t)
}

// interrupter ends a run shortly after it has reported something, in the midst of what comes next.
type interrupter struct {
	after  string
	cancel func()
}

func (i *interrupter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), i.after) {
		time.AfterFunc(300*time.Millisecond, i.cancel)
	}
	return len(b), nil
}

// expectNoChildren fails the test when a process that we started still runs.
func expectNoChildren(t *testing.T) {
	t.Helper()
	stats, err := allStats()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range tree(stats, os.Getpid())[1:] {
		name, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
		t.Errorf("process %d still runs: %s", pid, name)
	}
}

// testLog is a test's log as a writer.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

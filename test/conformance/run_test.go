package conformance_test

import (
	"sync"
	"testing"

	"github.com/flyproxy/flyproxy/test/conformance/leak"
)

// result is one cell of the table.
type result string

const (
	pass          result = "pass"
	notApplicable result = "n.a."
)

// limit is the result of a case that does not hold for the cause given.
func limit(cause failure) result { return "limit: " + result(cause) }

// run runs one case on an engine of its own.
func run(t *testing.T, en engine, sec section, tc testCase) (r result) {
	if en.Start == nil && (tc.Proxied || sec.Title == abuse) {
		return notApplicable
	}
	defer func() {
		switch f := recover().(type) {
		case nil:
		case failure:
			r = limit(f)
		default:
			panic(f)
		}
	}()
	tc.Run(newEnv(t, en))
	return pass
}

// sideBySide is how many cases run at a time: most of them wait.
const sideBySide = 6

// TestTransparency runs every case on every engine and compares the results with the table in docs/transparency.md.
func TestTransparency(t *testing.T) {
	leak.Check(t, "google.golang.org/grpc", "flyproxy/pkg/", "conformance/h2script")
	want := readTable(t)
	got := newTable()
	for _, en := range engines {
		t.Run(en.Name, func(t *testing.T) {
			for _, sec := range sections {
				workers := sideBySide
				if sec.Title == abuse {
					workers = 1
				}
				cases := make(chan testCase)
				var running sync.WaitGroup
				for range workers {
					running.Go(func() {
						for tc := range cases {
							t.Run(tc.Name, func(t *testing.T) { judge(t, en, sec, tc, want, got) })
						}
					})
				}
				for _, tc := range sec.Cases {
					cases <- tc
				}
				close(cases)
				running.Wait()
			}
		})
	}
	got.finish(t, want)
}

// judge runs a case and fails the test when its result is not the expected one, for better or worse.
func judge(t *testing.T, en engine, sec section, tc testCase, want, got *table) {
	r := run(t, en, sec, tc)
	got.put(en.Name, tc.Name, r)
	if *update {
		return
	}
	if expected := want.get(en.Name, tc.Name); r != expected {
		t.Errorf("%s: %s:\n got %q\nwant %q, as docs/transparency.md says", sec.Title, tc.Line, r, expected)
	}
}

package image_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// A rolling deploy of the image under load fails no call, whichever entry point the Machines have: none to the Machine that is
// replaced, and none of its own app's, which calls until it is told to end. Where the app ends at once, streams to it would be cut; but
// calls are not, since it was withdrawn before.
func TestRollingDeploy(t *testing.T) {
	t.Parallel()
	for _, d := range []deploy{
		{name: "supervisord", rounds: 2},
		{name: "flyproxy run", rounds: 4, command: []string{"flyproxy", "run", "--", "app"}},
		{name: "supervisord with an app that ends at once", rounds: 1, abrupt: true},
		{name: "flyproxy run with an app that ends at once", rounds: 2, command: []string{"flyproxy", "run", "--", "abrupt"}, abrupt: true},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			d.run(t)
		})
	}
}

type deploy struct {
	name    string
	rounds  int      // how often every Machine is replaced
	command []string // in place of the image's own
	abrupt  bool     // the app ends at once
}

// abrupt is the sample app, killed by SIGTERM, which it says. What is left of it ends by SIGUSR1: an app's own calls come back before it
// ends, and the test makes them.
const abrupt = `#!/bin/sh
app &
trap "kill -KILL $!; echo told to end" TERM
sleep infinity &
trap "kill $!; exit 0" USR1
while :; do wait; done
`

// run runs three Machines, and replaces one after the other while the apps of the others call.
func (d *deploy) run(t *testing.T) {
	c := newCluster(t, 3)
	for _, m := range c.all {
		if d.command != nil {
			m.cmd = d.command
		}
		if d.abrupt {
			m.put("/usr/local/bin/abrupt", 0o755, abrupt)
			conf, err := os.ReadFile(m.image.root + "/etc/supervisord.conf")
			if err != nil {
				t.Fatal(err)
			}
			m.put("/etc/supervisord.conf", 0o644, strings.Replace(string(conf), "-- app\n", "-- abrupt\n", 1))
		}
		m.start()
	}
	t.Logf("three Machines serve after %v", see(t, 3, c.all...).Round(time.Millisecond))
	y := &tally{failures: make(map[string]int)}
	calling := make(map[*machine]*callers)
	for _, m := range c.all {
		calling[m] = m.call(t, y, !d.abrupt)
	}
	more := func(n int) {
		before := y.done()
		proc.Eventually(t, "more calls", func() bool { return y.done() >= before+n })
	}
	more(500)
	for round := range d.rounds {
		for i, m := range c.all {
			code, stopped := d.stop(t, m, c.all[(i+1)%len(c.all)], calling[m], y)
			if code != 0 {
				t.Errorf("%s: exit code %d", m.id, code)
			}
			for _, killed := range []string{"killing 'app'", "killing 'flyproxy'", "killing 'withdraw'", "and is killed"} {
				if strings.Contains(m.Output(), killed) {
					t.Errorf("%s: something had to be killed: %s", m.id, killed)
				}
			}
			more(200) // without it
			m.start()
			started := see(t, 3, c.all...)
			t.Logf("round %d, %s: stopped in %v, serving again after %v", round+1, m.id, stopped.Round(time.Millisecond), started.Round(time.Millisecond))
			calling[m] = m.call(t, y, !d.abrupt)
			more(200)
		}
	}
	for _, callers := range calling {
		callers.stop()
	}
	t.Log(y)
	if y.failed() {
		t.Error("calls failed")
	}
}

// stop does as Fly does to a Machine whose app calls until it is told to end, and then finishes only the calls that it has begun. The
// app does not end before: a stream from another Machine is open there, or abrupt awaits it.
func (d *deploy) stop(t *testing.T, m, from *machine, calling *callers, y *tally) (code int, took time.Duration) {
	t.Helper()
	told, finished := "told to end", func() { m.send(m.pid("abrupt"), syscall.SIGUSR1) }
	if !d.abrupt {
		told = "INFO stopping within"
		visit, err := converse(from.dial(t), m.id)
		if err != nil {
			t.Fatalf("a stream to %s did not begin: %v", m.id, err)
		}
		began := time.Now()
		finished = func() { y.add(true, from.id, time.Since(began), visit.end()) }
	}
	before, began := y.done(), time.Now()
	m.Signal(syscall.SIGTERM)
	loaded := proc.Eventually(t, m.id+"'s app is told to end", func() bool { return strings.Contains(m.Output(), told) })
	calling.stop()
	t.Logf("%s: its app was told to end after %v, and its calls had come back after %v; %d calls and streams of all have ended by then",
		m.id, loaded.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), y.done()-before)
	finished()
	code = m.Exit(killTimeout)
	return code, time.Since(began)
}

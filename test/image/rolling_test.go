package image_test

import (
	"strings"
	"testing"
	"time"

	"github.com/flyproxy/flyproxy/test/internal/proc"
)

// A rolling deploy of the image under load fails no call, whichever entry point the Machines have.
func TestRollingDeploy(t *testing.T) {
	t.Run("supervisord", func(t *testing.T) { rollingDeploy(t, 2, nil) })
	t.Run("flyproxy run", func(t *testing.T) { rollingDeploy(t, 4, []string{"flyproxy", "run", "--", "app"}) })
}

// rollingDeploy runs three Machines, with the image's own command unless another is given, and replaces one after the other, so many
// rounds, while the apps of the others call.
func rollingDeploy(t *testing.T, rounds int, command []string) {
	t.Parallel()
	c := newCluster(t, 3)
	for _, m := range c.all {
		if command != nil {
			m.cmd = command
		}
		m.start()
	}
	t.Logf("three Machines serve after %v", see(t, 3, c.all...).Round(time.Millisecond))
	y := &tally{failures: make(map[string]int)}
	calling := make(map[*machine]*callers)
	for _, m := range c.all {
		calling[m] = m.call(t, y)
	}
	more := func(n int) {
		before := y.done()
		proc.Eventually(t, "more calls", func() bool { return y.done() >= before+n })
	}
	more(500)
	for round := range rounds {
		for _, m := range c.all {
			calling[m].stop()
			code, stopped := m.stop()
			if code != 0 {
				t.Errorf("%s: exit code %d", m.id, code)
			}
			if out := m.Output(); strings.Contains(out, "SIGKILL") {
				t.Errorf("%s: something had to be killed:\n%s", m.id, out)
			}
			more(200) // without it
			m.start()
			started := see(t, 3, c.all...)
			t.Logf("round %d, %s: stopped in %v, serving again after %v", round+1, m.id, stopped.Round(time.Millisecond), started.Round(time.Millisecond))
			calling[m] = m.call(t, y)
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

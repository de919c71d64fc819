package proc

import (
	"os"
	"testing"
	"time"
)

// Patience bounds every wait. What a test finds out about times it logs and does not judge: they depend on the machine.
const Patience = 30 * time.Second

// Required tells whether a missing program fails a test instead of skipping it.
func Required() bool { return os.Getenv("CI") != "" || os.Getenv("REQUIRE_ALL_TESTS") != "" }

// Need ends the test where something is missing: as a failure where everything is required.
func Need(t testing.TB, what string, ok bool) {
	t.Helper()
	switch {
	case ok:
	case Required():
		t.Fatalf("%s is missing, and nothing may be skipped here: run make setup", what)
	default:
		t.Skipf("%s is missing: run make setup", what)
	}
}

// Eventually waits until ok holds, for Patience at most, and gives how long that took. It polls, so that is exact to a few milliseconds
// only.
func Eventually(t testing.TB, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > Patience {
			t.Fatalf("not within %v: %s", Patience, what)
		}
		<-tick.C
	}
	return time.Since(began)
}

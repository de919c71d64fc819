package enginetest

import "testing"

// one is a test of the suite.
type one struct {
	name string
	run  func(*testing.T, Subject)
}

// Run runs the suite. The tests are named Theme/Test, so -run 'TestContract/Room' picks a theme. They look at the goroutines of
// the whole process: nothing else may run beside them.
func Run(t *testing.T, e Subject) {
	for _, theme := range []struct {
		name  string
		tests []one
	}{
		{"Calls", calls()},
		{"Metadata", metadataOfCalls()},
		{"Status", statuses()},
		{"Ends", ends()},
		{"Deadlines", deadlines()},
		{"Peers", peers()},
		{"Connections", connections()},
		{"Unprocessed", unprocessed()},
		{"Flapping", flappingPeers()},
		{"Room", room()},
		{"Churn", churn()},
		{"OwnServices", ownServices()},
		{"Lifecycle", lifecycle()},
		{"Observer", observer()},
		{"Stats", stats()},
	} {
		t.Run(theme.name, func(t *testing.T) {
			for _, o := range theme.tests {
				t.Run(o.name, func(t *testing.T) {
					CheckLeaks(t)
					o.run(t, e)
				})
			}
		})
	}
}

//go:build race

package e2e_test

// raceFlags build the processes under test as the tests themselves are built.
var raceFlags = []string{"-race"}

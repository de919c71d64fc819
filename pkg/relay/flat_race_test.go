//go:build race

package relay_test

// poolAllowance is added to mostAllocations: with the race detector, sync.Pool throws away a part of what it is given, at random.
const poolAllowance = 4

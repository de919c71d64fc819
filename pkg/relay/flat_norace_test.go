//go:build !race

package relay_test

// poolAllowance is added to mostAllocations.
const poolAllowance = 0

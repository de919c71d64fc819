package fly

import "math"

// MemoryLimit is the share (0 to 1) of a Machine's memory, in bytes, in the form that [runtime/debug.SetMemoryLimit] takes.
// It is [math.MaxInt64], which means no limit, when the memory is unknown or the share is not above 0. A GOMEMLIMIT in the
// environment is the stronger word; seeing to that is the caller's task.
func MemoryLimit(memoryMB int, share float64) int64 {
	if memoryMB <= 0 || !(share > 0) {
		return math.MaxInt64
	}
	limit := float64(memoryMB) * (1 << 20) * min(share, 1)
	if limit >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(limit)
}

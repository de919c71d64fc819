package telemetry

// Machine is how busy the machine is that we run on.
type Machine struct {
	// CPU is the share (0 to 1) of processor time, of all processors, that was in use or withheld by the host since the sample
	// before.
	CPU float64
	// Memory is the share (0 to 1) of memory that programs could not have.
	Memory float64
}

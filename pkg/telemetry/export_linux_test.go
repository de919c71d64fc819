package telemetry

// NewMachineSamplerAt reads another directory than /proc.
func NewMachineSamplerAt(procfs string) *MachineSampler { return newMachineSampler(procfs) }

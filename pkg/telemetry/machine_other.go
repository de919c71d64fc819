//go:build !linux

package telemetry

// MachineSampler measures the machine, which it can on Linux only: here every sample is zero.
type MachineSampler struct{}

// NewMachineSampler makes a sampler.
func NewMachineSampler() *MachineSampler { return &MachineSampler{} }

// Sample gives a zero Machine.
func (*MachineSampler) Sample() Machine { return Machine{} }

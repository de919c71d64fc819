// Package fly holds all that is known of Fly.io: the identity of a Machine, the forms of its address on the private network
// (6PN), where the regions are, and the names of the headers that Fly's own proxy understands.
//
// Nothing here reads the process environment or does a DNS look-up by itself: what a function needs is handed to it.
package fly

import (
	"net/netip"
	"strconv"
)

// Environment is what Fly tells a Machine about itself (https://fly.io/docs/machines/runtime-environment/). It is a plain
// value; what Fly did not say is empty.
type Environment struct {
	// OnFly tells whether this process runs in a Fly Machine: FLY_APP_NAME and FLY_MACHINE_ID are both there, or it was forced.
	OnFly bool
	// App is the Fly app's name (FLY_APP_NAME).
	App string
	// MachineID stays the same for the Machine's whole life (FLY_MACHINE_ID).
	MachineID string
	// Region is the three-letter code of the region that the Machine runs in (FLY_REGION).
	Region string
	// PrivateIP is the Machine's address on 6PN (FLY_PRIVATE_IP). It may be another one after a reboot. It is the zero Addr
	// when it is absent or not an IP address.
	PrivateIP netip.Addr
	// ProcessGroup is set by Fly's CLI only, so it may be empty (FLY_PROCESS_GROUP).
	ProcessGroup string
	// PrimaryRegion is set by Fly's CLI only, so it may be empty (PRIMARY_REGION).
	PrimaryRegion string
	// ImageRef is the image that the Machine runs (FLY_IMAGE_REF).
	ImageRef string
	// MachineVersion changes with every change of configuration or image, so it is no identity (FLY_MACHINE_VERSION).
	MachineVersion string
	// MemoryMB is the Machine's memory in MiB (FLY_VM_MEMORY_MB); 0 when it is unknown.
	MemoryMB int
}

// Detect reads the environment that lookup gives, which has the form of [os.LookupEnv]. A variable that is set to nothing
// counts as not set.
func Detect(lookup func(string) (string, bool)) Environment {
	get := func(name string) string {
		v, _ := lookup(name)
		return v
	}
	e := Environment{
		App:            get("FLY_APP_NAME"),
		MachineID:      get("FLY_MACHINE_ID"),
		Region:         get("FLY_REGION"),
		ProcessGroup:   get("FLY_PROCESS_GROUP"),
		PrimaryRegion:  get("PRIMARY_REGION"),
		ImageRef:       get("FLY_IMAGE_REF"),
		MachineVersion: get("FLY_MACHINE_VERSION"),
	}
	e.OnFly = e.App != "" && e.MachineID != ""
	if ip, err := netip.ParseAddr(get("FLY_PRIVATE_IP")); err == nil {
		e.PrivateIP = ip
	}
	if mb, err := strconv.Atoi(get("FLY_VM_MEMORY_MB")); err == nil && mb > 0 {
		e.MemoryMB = mb
	}
	return e
}

// Forced is e with the detection overruled: on or off Fly, whatever the environment looks like.
func (e Environment) Forced(on bool) Environment {
	e.OnFly = on
	return e
}

package flyconfig

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A preset is a size of Machines that has a name (fly-go, MachinePresets).
type preset struct {
	kind     string
	cpus, mb int
}

const (
	defaultSize = "shared-cpu-1x"

	sharedMB, maxSharedMB           = 256, 2048 // of one CPU
	performanceMB, maxPerformanceMB = 2048, 8192
)

func presets() map[string]preset {
	all := map[string]preset{
		"a100-40gb": {"performance", 8, 32768}, "a100-80gb": {"performance", 8, 32768},
		"l40s": {"performance", 8, 32768}, "a10": {"performance", 8, 32768},
	}
	for _, n := range []int{1, 2, 4, 6, 8} {
		all[fmt.Sprintf("shared-cpu-%dx", n)] = preset{"shared", n, n * sharedMB}
	}
	for _, n := range []int{1, 2, 4, 6, 8, 10, 12, 14, 16} {
		all[fmt.Sprintf("performance-%dx", n)] = preset{"performance", n, n * performanceMB}
	}
	return all
}

func (r *report) vms(all []VM) {
	for i := range all {
		r.vm(fmt.Sprintf("vm[%d]", i), &all[i])
	}
}

// vm checks a size: memory beyond what the CPUs may have is refused by the platform.
func (r *report) vm(key string, v *VM) {
	size := v.Size
	if size == "" {
		size = defaultSize
	}
	p, known := presets()[size]
	if !known {
		r.fault(key+".size", "write one of "+strings.Join(slices.Sorted(maps.Keys(presets())), ", "), "%q is no size", v.Size)
	}
	if v.CPUKind != "" {
		r.oneOf(key+".cpu_kind", v.CPUKind, "shared", "performance")
		p.kind = v.CPUKind
	}
	if v.CPUs != 0 {
		if !slices.Contains([]int{1, 2, 4, 6, 8, 10, 12, 14, 16}, v.CPUs) {
			r.fault(key+".cpus", "write 1, or an even number up to 16", "%d is not accepted", v.CPUs)
			return
		}
		p.cpus = v.CPUs
	}
	at := key + ".memory"
	switch {
	case v.MemoryMB != 0:
		at, p.mb = key+".memory_mb", v.MemoryMB
	case v.Memory != nil:
		mb, err := megabytes(v.Memory)
		if err != nil {
			r.fault(at, `write "512mb" or "1gb"`, "%v", err)
			return
		}
		p.mb = mb
	default:
		return // the size's own
	}
	least, most := sharedMB, maxSharedMB
	if p.kind == "performance" {
		least, most = performanceMB, maxPerformanceMB
	}
	if known && (p.mb < least*p.cpus || p.mb > most*p.cpus || p.mb%256 != 0) {
		r.fault(at, fmt.Sprintf("write a multiple of 256 from %d to %d", least*p.cpus, most*p.cpus),
			"%d MB is not possible with %d %s CPU", p.mb, p.cpus, p.kind)
	}
}

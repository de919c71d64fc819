package telemetry

import (
	"bytes"
	"os"
	"strconv"
)

// MachineSampler measures the machine. Its method belongs to one goroutine.
type MachineSampler struct {
	procfs string
	last   cpuTimes
	cpu    float64
}

// cpuTimes are sums since boot, in ticks.
type cpuTimes struct{ busy, total uint64 }

// NewMachineSampler takes the first reading, from which the first sample measures.
func NewMachineSampler() *MachineSampler { return newMachineSampler("/proc") }

func newMachineSampler(procfs string) *MachineSampler {
	s := &MachineSampler{procfs: procfs}
	s.last, _ = s.readCPU()
	return s
}

// Sample measures the machine. What cannot be read is 0.
func (s *MachineSampler) Sample() Machine {
	m := Machine{Memory: s.readMemory()}
	now, ok := s.readCPU()
	if !ok {
		return m
	}
	// Two samples within one tick say nothing new: the last share stands. The kernel's idle times may step back a little.
	if now.total > s.last.total {
		busy := float64(now.busy) - float64(s.last.busy)
		s.cpu = min(max(busy/float64(now.total-s.last.total), 0), 1)
		s.last = now
	}
	m.CPU = s.cpu
	return m
}

// readCPU reads the first line of /proc/stat (proc_stat(5)): user nice system idle iowait irq softirq steal guest guest_nice.
// The guests' times are part of user and nice. Steal counts as busy: it is time that programs here wanted and the host gave to
// others, as it does to Machines with shared processors.
func (s *MachineSampler) readCPU() (cpuTimes, bool) {
	data, err := os.ReadFile(s.procfs + "/stat")
	if err != nil {
		return cpuTimes{}, false
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 5 || string(fields[0]) != "cpu" {
		return cpuTimes{}, false
	}
	var t cpuTimes
	for i, f := range fields[1:min(len(fields), 9)] {
		n, err := strconv.ParseUint(string(f), 10, 64)
		if err != nil {
			return cpuTimes{}, false
		}
		t.total += n
		if i != 3 && i != 4 { // idle, iowait
			t.busy += n
		}
	}
	return t, true
}

// readMemory reads MemTotal and MemAvailable (proc_meminfo(5)); the latter is the kernel's own estimate of what programs could
// have without swapping.
func (s *MachineSampler) readMemory() float64 {
	data, err := os.ReadFile(s.procfs + "/meminfo")
	if err != nil {
		return 0
	}
	var total, available uint64
	var seen int
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			continue
		}
		var into *uint64
		switch string(fields[0]) {
		case "MemTotal:":
			into = &total
		case "MemAvailable:":
			into = &available
		default:
			continue
		}
		if n, err := strconv.ParseUint(string(fields[1]), 10, 64); err == nil {
			*into = n
			seen++
		}
	}
	if seen != 2 || total == 0 || available > total {
		return 0
	}
	return 1 - float64(available)/float64(total)
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc/<pid>/stat. Linux tells user space 100 Hz on every architecture that Go runs on (see
// time(7), "The software clock, HZ, and jiffies"), whatever the kernel's own rate.
const tick = 10 * time.Millisecond

// usage is what a process and all its descendants have used.
type usage struct {
	// cpu is user and system time, that of children that have ended and were waited for included; exact to one tick.
	cpu time.Duration
	// resident is the sum of VmRSS in bytes. What the processes share is counted in each of them.
	resident int64
}

// processStat are the fields of /proc/<pid>/stat that are used here.
type processStat struct {
	parent int
	cpu    time.Duration
}

// readUsage adds up the processes of the tree whose root is pid.
func readUsage(pid int) (usage, error) {
	stats, err := allStats()
	if err != nil {
		return usage{}, err
	}
	if _, ok := stats[pid]; !ok {
		return usage{}, fmt.Errorf("process %d has ended", pid)
	}
	var sum usage
	for _, p := range tree(stats, pid) {
		resident, err := readResident(p)
		if err != nil {
			return usage{}, err
		}
		sum.cpu += stats[p].cpu
		sum.resident += resident
	}
	return sum, nil
}

// tree gives root and its descendants.
func tree(stats map[int]processStat, root int) []int {
	found := []int{root}
	for i := 0; i < len(found); i++ {
		for p, s := range stats {
			if s.parent == found[i] {
				found = append(found, p)
			}
		}
	}
	return found
}

func allStats() (map[int]processStat, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	stats := make(map[int]processStat, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ended since
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		if stats[pid], err = parseStat(text); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return stats, nil
}

// parseStat reads a line of proc_pid_stat(5). The second field is a name in parentheses, in which anything may stand.
func parseStat(text []byte) (processStat, error) {
	_, rest, ok := cutLast(text, []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 15 {
		return processStat{}, fmt.Errorf("unexpected form: %q", text)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return processStat{}, err
	}
	var ticks int64
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return processStat{}, err
		}
		ticks += n
	}
	return processStat{parent: parent, cpu: time.Duration(ticks) * tick}, nil
}

func cutLast(s, sep []byte) (before, after []byte, found bool) {
	if i := bytes.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, nil, false
}

// readResident gives VmRSS in bytes; zero for a process that has ended since it was listed.
func readResident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, nil // a zombie has none
}

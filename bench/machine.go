package main

import (
	"errors"
	"os"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// machine is where a run took place.
type machine struct {
	Cores  int       `json:"cores"`
	CPU    string    `json:"cpu"`
	Kernel string    `json:"kernel"`
	System string    `json:"system"`
	Go     string    `json:"go"`
	Date   time.Time `json:"date"`
}

func thisMachine() machine {
	return machine{
		Cores: runtime.NumCPU(), CPU: fileField("/proc/cpuinfo", `(?m)^model name\s*:\s*(.+)$`),
		Kernel: fileField("/proc/sys/kernel/osrelease", `^(\S+)`), System: fileField("/etc/os-release", `PRETTY_NAME="?([^"\n]+)`),
		Go: strings.TrimPrefix(runtime.Version(), "go"), Date: time.Now().UTC(),
	}
}

// fileField gives the first group of an expression in a file, or "unknown".
func fileField(file, form string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	found := regexp.MustCompile(form).FindSubmatch(text)
	if found == nil {
		return "unknown"
	}
	return string(found[1])
}

// checkHost tells whether this system has what the figures come from.
func checkHost() error {
	if _, err := os.Stat("/proc/self/stat"); runtime.GOOS != "linux" || err != nil {
		return errors.New("the benchmark reads CPU time and memory from /proc, so it needs Linux")
	}
	return nil
}

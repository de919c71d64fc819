//go:build !linux

package main

import (
	"syscall"
	"time"
)

// The figures come from /proc, so the benchmark runs on Linux only; elsewhere it builds and says so (see checkHost).

func ownGroup() *syscall.SysProcAttr { return nil }

func killGroup(int) {}

func sleepFor(d time.Duration) { time.Sleep(d) }

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const hasProcesses = true

// processCost is the CPU time and the resident memory of a process, by /proc/PID/stat (proc(5)): fields 14, 15 and 24.
func processCost(pid int) (cpuSeconds, residentBytes float64, known bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, false
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 22 {
		return 0, 0, false
	}
	field := func(n int) float64 {
		v, _ := strconv.ParseFloat(fields[n-3], 64) // the kernel writes numbers
		return v
	}
	const ticks = 100 // a second; USER_HZ is 100 wherever Linux runs Go
	return (field(14) + field(15)) / ticks, field(24) * float64(os.Getpagesize()), true
}

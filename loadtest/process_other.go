//go:build !linux

package main

const hasProcesses = false

func processCost(int) (cpuSeconds, residentBytes float64, known bool) { return 0, 0, false }

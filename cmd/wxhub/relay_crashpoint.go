//go:build crashpoint

package main

import (
	"os"
	"syscall"
)

// These kill the process, as a power cut would: only in binaries built with the tag crashpoint, and only when
// WXHUB_CRASHPOINT says so.
var (
	beforeRelay = dieAt("after_commit")
	beforeSend  = dieAt("before_send")
	afterSend   = dieAt("after_send")
)

func dieAt(point string) func() {
	return func() {
		if os.Getenv("WXHUB_CRASHPOINT") == point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

func init() { ownVariables = append(ownVariables, "WXHUB_CRASHPOINT") }

//go:build crashpoint

package main

import (
	"os"
	"syscall"
)

// beforeRelay kills the process, as a power cut would, after the commit and before the relay: only in binaries
// built with the tag crashpoint, and only when WXHUB_CRASHPOINT says so.
var beforeRelay = func() {
	if os.Getenv("WXHUB_CRASHPOINT") == "after_commit" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func init() { ownVariables = append(ownVariables, "WXHUB_CRASHPOINT") }

//go:build !unix

package main

func raiseFileLimit() {}

// fileLimit: systems without such a limit.
func fileLimit() int { return 1 << 20 }

//go:build !unix

package main

// machine: what this system allows is not looked at.
func (d *doctor) machine() {}

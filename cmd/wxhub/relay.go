//go:build !crashpoint

package main

// beforeRelay is where tests let a process die between the commit and the relay.
var beforeRelay func()

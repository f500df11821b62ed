//go:build !crashpoint

package main

// Where tests let a process die: between the commit and the relay, and before and after WeChat is called for mail that is
// told another way.
var beforeRelay, beforeSend, afterSend func()

//go:build !linux

package main

import "time"

// hasDescriptors: without epoll every line has goroutines of its own.
const hasDescriptors = false

// A poller only sleeps and wakes.
type poller struct{ bell chan struct{} }

func newPoller() (*poller, error) { return &poller{make(chan struct{}, 1)}, nil }

func (p *poller) wake() {
	select {
	case p.bell <- struct{}{}:
	default:
	}
}

func (p *poller) wait(_ *loop, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.bell:
	case <-timer.C:
	}
}

func (p *poller) connect(*line, dialing) (wire, error) { panic("there are no descriptors") }

func (p *poller) close() {}

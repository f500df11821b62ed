package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A hub lives between waves: thousands of phones come within seconds and then sit still for hours. So while there is
// work the collector may let the heap grow to three times of what lives, which halves what it costs; and when the process
// is quiet again, what the wave left behind goes back to the system.
const (
	heapGrowth  = 200 // percent; GOGC in the environment decides instead
	quietEvery  = 3 * time.Second
	quietBytes  = 256 << 10 // allocated in a second: less is quiet
	wornAtLeast = 8 << 20   // bytes worth going for, and
	wornShare   = 4         // … at least that part of what lives: a collection is felt
)

// memory knows what the heap was at the last look.
type memory struct {
	samples []metrics.Sample
	before  uint64 // allocated since the start
}

func newMemory() *memory {
	m := &memory{samples: []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}}
	m.worn(0)
	return m
}

// worn tells how much could go back to the system, if the process was quiet since the last look; else 0.
func (m *memory) worn(past time.Duration) uint64 {
	metrics.Read(m.samples)
	allocated, live := m.samples[0].Value.Uint64(), m.samples[1].Value.Uint64()
	objects, free := m.samples[2].Value.Uint64(), m.samples[3].Value.Uint64()
	fresh := allocated - m.before
	m.before = allocated
	if float64(fresh) > quietBytes*past.Seconds() {
		return 0
	}
	worn := free
	if objects > live {
		worn += objects - live
	}
	if worn < max(wornAtLeast, live/wornShare) {
		return 0
	}
	return worn
}

// tendMemory runs until ctx ends.
func tendMemory(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(heapGrowth))
	}
	m := newMemory()
	tick := time.NewTicker(quietEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if m.worn(quietEvery) > 0 {
				debug.FreeOSMemory()
				m.worn(0)
			}
		}
	}
}

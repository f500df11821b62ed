package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// What a wave leaves behind is seen once the process is quiet, and not while it works.
func TestMemory_afterAWave(t *testing.T) {
	debug.FreeOSMemory()
	m := newMemory()
	wave := make([][]byte, 64)
	for i := range wave {
		wave[i] = make([]byte, 1<<20)
	}
	if worn := m.worn(time.Second); worn != 0 {
		t.Errorf("%d bytes go back in the middle of a wave", worn)
	}
	runtime.GC() // they live
	m.worn(0)
	if worn := m.worn(time.Second); worn > 32<<20 {
		t.Errorf("%d bytes of those that live would go back", worn)
	}
	runtime.KeepAlive(wave)
	clear(wave)
	runtime.GC()
	m.worn(0)
	if worn := m.worn(time.Second); worn < 48<<20 {
		t.Errorf("after 64 MiB only %d go back", worn)
	}
	debug.FreeOSMemory()
	m.worn(0)
	if worn := m.worn(time.Second); worn > 32<<20 {
		t.Errorf("%d bytes are left", worn)
	}
}

package hub

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A lone question is asked at once; those of a wave go together, and wait at most waveSpan.
func TestBatcher_wave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, Options{})
		b := batcher[int]{hub: h, ask: func(_ context.Context, rooms []string) ([]int, error) {
			time.Sleep(100 * time.Microsecond)
			return make([]int, len(rooms)), nil
		}}
		ask := func() time.Duration {
			began := time.Now()
			if _, err := b.get(t.Context(), "room"); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		if took := ask(); took > time.Millisecond {
			t.Errorf("a lone question took %v", took)
		}
		time.Sleep(time.Second)
		alone := b.batches.Load()
		var all sync.WaitGroup
		for range 1000 { // one a millisecond
			all.Go(func() {
				if took := ask(); took > waveSpan+2*wavePause {
					t.Errorf("a question of a wave took %v", took)
				}
			})
			time.Sleep(time.Millisecond)
		}
		all.Wait()
		if wave := b.batches.Load() - alone; wave > 60 {
			t.Errorf("a wave of 1000 was asked in %d batches", wave)
		}
		time.Sleep(time.Second)
		if took := ask(); took > time.Millisecond {
			t.Errorf("a lone question after the wave took %v", took)
		}
	})
}

package jobs

import (
	"maps"
	"sync"
	"time"

	"wxhub/store"
)

// KindStats are the relay's figures of one kind, of this process since it started.
type KindStats struct {
	Relayed, Retries, GivenUp uint64
	Took                      time.Duration // of those relayed, from commit to the end, added up
}

// tallies count what the relay does.
type tallies struct {
	mu    sync.Mutex
	kinds map[store.TellingKind]KindStats
}

func (t *tallies) add(kind store.TellingKind, d KindStats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kinds == nil {
		t.kinds = make(map[store.TellingKind]KindStats)
	}
	k := t.kinds[kind]
	k.Relayed += d.Relayed
	k.Retries += d.Retries
	k.GivenUp += d.GivenUp
	k.Took += d.Took
	t.kinds[kind] = k
}

// Stats are the relay's figures by kind.
func (j *Jobs) Stats() map[store.TellingKind]KindStats {
	j.stats.mu.Lock()
	defer j.stats.mu.Unlock()
	return maps.Clone(j.stats.kinds)
}

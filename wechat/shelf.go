package wechat

import (
	"context"
	"sync"
	"time"
)

// memoryTokens is the TokenStore of a process that was given none. It is safe for concurrent use.
type memoryTokens struct {
	now func() time.Time

	mu    sync.Mutex // guards what follows
	kept  map[string]kept
	locks map[string]time.Time // until when
}

type kept struct {
	value     string
	expiresAt time.Time
}

const maxKept = 10_000 // media ids mostly; then the dead ones go, or else all

func (m *memoryTokens) Load(_ context.Context, name string) (string, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.kept[name]
	return k.value, k.expiresAt, nil
}

func (m *memoryTokens) Save(_ context.Context, name, value string, expiresAt time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.kept) >= maxKept {
		now := m.now()
		for name, k := range m.kept {
			if !now.Before(k.expiresAt) {
				delete(m.kept, name)
			}
		}
	}
	if m.kept == nil || len(m.kept) >= maxKept {
		m.kept = map[string]kept{}
	}
	m.kept[name] = kept{value, expiresAt}
	return nil
}

func (m *memoryTokens) Lock(_ context.Context, name string, ttl time.Duration) (bool, func(), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if until, held := m.locks[name]; held && now.Before(until) {
		return false, func() {}, nil
	}
	if m.locks == nil {
		m.locks = map[string]time.Time{}
	}
	until := now.Add(ttl)
	m.locks[name] = until
	return true, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.locks[name].Equal(until) {
			delete(m.locks, name)
		}
	}, nil
}

// recall is what the shelf keeps under name and is still good; "": nothing. A store that fails is as good as
// an empty one: what is on the shelf can be had again.
func recall(ctx context.Context, l *line, s TokenStore, name string) string {
	value, expiresAt, err := s.Load(ctx, name)
	if err != nil {
		l.log.Warn("what WeChat gave us cannot be read from the store", "err", err)
		return ""
	}
	if !l.now().Before(expiresAt) {
		return ""
	}
	return value
}

func keep(ctx context.Context, l *line, s TokenStore, name, value string, expiresAt time.Time) {
	if err := s.Save(ctx, name, value, expiresAt); err != nil {
		l.log.Warn("what WeChat gave us cannot be kept in the store", "err", err)
	}
}

// turns lets one at a time through, by name. The zero value is ready.
type turns struct {
	mu    sync.Mutex // guards what follows
	taken map[string]chan struct{}
}

// take waits for name's turn; false: ctx ended before. done gives it on.
func (t *turns) take(ctx context.Context, name string) (done func(), ok bool) {
	for {
		t.mu.Lock()
		ended, busy := t.taken[name]
		if !busy {
			if t.taken == nil {
				t.taken = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			t.taken[name] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.taken, name)
				t.mu.Unlock()
				close(mine)
			}, true
		}
		t.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, false
		}
	}
}

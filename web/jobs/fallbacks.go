package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"wxhub/store"
)

// Fallbacks are the rules in force: those that an admin saved, else those of the settings. Safe for concurrent use.
type Fallbacks struct {
	db      *store.DB
	setting []*fallbackRule

	mu      sync.Mutex // guards what follows
	saved   []*fallbackRule
	version int64 // of what was saved; 0: never
	by      string
	at      time.Time
}

const (
	fallbacksName  = "fallbacks" // of the document in the store
	learnFallbacks = time.Second // a change reaches every node within it
)

// NewFallbacks checks the rules of the settings and reads what was saved.
func NewFallbacks(ctx context.Context, db *store.DB, setting []FallbackRule) (*Fallbacks, error) {
	read, err := readFallbacks(setting)
	if err != nil {
		return nil, fmt.Errorf("fallbacks: %w", err)
	}
	b := &Fallbacks{db: db, setting: read}
	return b, b.Learn(ctx)
}

// Learn reads what was saved, here or on another node.
func (b *Fallbacks) Learn(ctx context.Context) error {
	d, err := b.db.Document(ctx, fallbacksName)
	if err != nil {
		return fmt.Errorf("fallbacks: %w", err)
	}
	return b.adopt(d)
}

func (b *Fallbacks) adopt(d store.Document) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.Version <= b.version {
		return nil
	}
	var rules []FallbackRule
	if err := json.Unmarshal(d.Value, &rules); err != nil {
		return fmt.Errorf("fallbacks: version %d as saved: %w", d.Version, err)
	}
	read, err := readFallbacks(rules)
	if err != nil { // of a newer program
		return fmt.Errorf("fallbacks: version %d as saved: %w", d.Version, err)
	}
	if bytes.Equal(bytes.TrimSpace(d.Value), []byte("null")) {
		read = nil
	} else if read == nil {
		read = []*fallbackRule{}
	}
	b.saved, b.version, b.by, b.at = read, d.Version, d.ChangedBy, d.ChangedAt
	return nil
}

// FallbackRules are rules and where they came from.
type FallbackRules struct {
	Rules   []FallbackRule
	Saved   bool  // by an admin; else they are those of the settings
	Version int64 // grows with every change; 0: nobody ever changed them
	By      string
	At      time.Time // of the last change
}

// Rules are those in force.
func (b *Fallbacks) Rules() FallbackRules {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := FallbackRules{Rules: []FallbackRule{}, Saved: b.saved != nil, Version: b.version, By: b.by, At: b.at}
	for _, one := range b.inForce() {
		r.Rules = append(r.Rules, one.FallbackRule)
	}
	return r
}

// inForce needs b.mu.
func (b *Fallbacks) inForce() []*fallbackRule {
	if b.saved != nil {
		return b.saved
	}
	return b.setting
}

// rule is the one for an action; nil: there is none.
func (b *Fallbacks) rule(action string) *fallbackRule {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.inForce() {
		if r.fits(action) {
			return r
		}
	}
	return nil
}

// ErrFallbacksChanged: somebody else saved rules since the version that a Save names.
var ErrFallbacksChanged = errors.New("jobs: the fallback rules were changed meanwhile")

// ErrFallbackRule: rules that cannot be followed. The text says which and why.
var ErrFallbackRule = errors.New("jobs: fallback rule")

// Save puts rules into force on every node, in place of those at version. nil rules: those of the settings again.
func (b *Fallbacks) Save(ctx context.Context, rules []FallbackRule, version int64, by string) error {
	if _, err := readFallbacks(rules); err != nil {
		return &faultyRule{err}
	}
	text, err := json.Marshal(rules)
	if err != nil {
		return fmt.Errorf("fallbacks: %w", err)
	}
	d, err := b.db.SetDocument(ctx, fallbacksName, text, version, by)
	if errors.Is(err, store.ErrOtherBody) {
		return errors.Join(ErrFallbacksChanged, b.Learn(ctx))
	}
	if err != nil {
		return fmt.Errorf("fallbacks: save: %w", err)
	}
	if err := b.adopt(d); err != nil {
		return err
	}
	return b.db.WakeHeld(ctx) // what no rule could send before, another one may
}

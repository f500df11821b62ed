package web

import (
	"context"
	"errors"
	"sync"
	"time"

	"wxhub/hub"
	"wxhub/store"
)

const revokedSlack = 5 * time.Second // how far back each look reaches: commits are not in order of time

// revocations is what this node knows of dead tokens and of blocked and erased users. Safe for concurrent use.
type revocations struct {
	db *store.DB // nil: nothing is known

	deciding sync.Mutex // held over a decision about a user and over each look at those of others, so that no look brings back what was before

	mu       sync.RWMutex
	tokens   map[string]revoked // by token id
	blocked  map[string]bool    // user id → erased, which is for good
	tokensTo time.Time          // revocations up to here are in tokens
	usersTo  time.Time          // … and decisions about users in blocked
}

type revoked struct {
	expiresAt time.Time // when the token would have died anyway
	keep      bool      // exchanged for a new one: its sockets stay
}

func newRevocations(db *store.DB) revocations {
	return revocations{db: db, tokens: map[string]revoked{}, blocked: map[string]bool{}}
}

// allow tells why a session is not to be served, although the token called id is right.
func (v *revocations) allow(s hub.Session, id string) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if _, dead := v.tokens[id]; dead {
		return errBadToken
	}
	if r, ended := v.tokens[s.ID]; ended && !r.keep { // its first token may have been exchanged long ago
		return errBadToken
	}
	if erased, blocked := v.blocked[s.User]; erased {
		return errBadToken
	} else if blocked {
		return errBlocked
	}
	return nil
}

// Revoke ends a session: every token of it is dead here at once, elsewhere when the other nodes look next. It returns
// after the commit.
func (v *revocations) Revoke(ctx context.Context, s hub.Session) error {
	return v.revoke(ctx, s.ID, s.ExpiresAt, false)
}

// exchanged makes one token dead, whose session goes on with another: its sockets stay, on every node.
func (v *revocations) exchanged(ctx context.Context, id string, expiresAt time.Time) error {
	return v.revoke(ctx, id, expiresAt, true)
}

func (v *revocations) revoke(ctx context.Context, id string, expiresAt time.Time, keep bool) error {
	if v.db != nil {
		if err := v.db.RevokeToken(ctx, id, expiresAt, keep); err != nil {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if old, known := v.tokens[id]; known { // an end is final, and lasts as long as the longest-lived token
		keep = keep && old.keep
		if old.expiresAt.After(expiresAt) {
			expiresAt = old.expiresAt
		}
	}
	v.tokens[id] = revoked{expiresAt, keep}
	return nil
}

// ended tells why a socket that was opened for s while it was still good must go, or returns nothing.
func (v *revocations) ended(s hub.Session) (d hub.Disconnect, ended bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if erased, blocked := v.blocked[s.User]; erased {
		return hub.DisconnectToken, true
	} else if blocked {
		return hub.DisconnectBlocked, true
	}
	r, dead := v.tokens[s.ID]
	return hub.DisconnectToken, dead && !r.keep
}

// Block refuses a user's tokens, or takes them again: here at once, elsewhere when the other nodes look next. It returns
// after the commit. store.ErrErased: the id is dead for good.
func (v *revocations) Block(ctx context.Context, user string, blocked bool) error {
	if v.db == nil {
		return errors.New("web: block: no store")
	}
	v.deciding.Lock()
	defer v.deciding.Unlock()
	if err := v.db.Block(ctx, user, blocked); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.decide(user, blocked, false)
	return nil
}

// Erase makes a user's id dead for good; the caller has erased the data.
func (v *revocations) Erase(user string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.decide(user, true, true)
}

// decide notes the newest decision about a user. Needs v.mu. Erased is for good.
func (v *revocations) decide(user string, blocked, erased bool) {
	switch {
	case v.blocked[user]:
	case blocked || erased:
		v.blocked[user] = erased
	default:
		delete(v.blocked, user)
	}
}

// news is what other nodes decided since the last look: whose sockets are to be closed.
type news struct {
	sessions []string
	blocked  []string // users
	erased   []string // users
}

// learn reads what others decided.
func (v *revocations) learn(ctx context.Context) (fresh news, err error) {
	if v.db == nil {
		return fresh, nil
	}
	v.deciding.Lock()
	defer v.deciding.Unlock()
	v.mu.RLock()
	tokensTo, usersTo := v.tokensTo, v.usersTo
	v.mu.RUnlock()
	tokens, err := v.db.Revocations(ctx, back(tokensTo))
	if err != nil {
		return fresh, err
	}
	users, err := v.db.BlockedUsers(ctx, back(usersTo))
	if err != nil {
		return fresh, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range tokens {
		if old, known := v.tokens[r.TokenID]; !known || old.keep && !r.Keep {
			v.tokens[r.TokenID] = revoked{r.ExpiresAt, r.Keep}
			if !r.Keep {
				fresh.sessions = append(fresh.sessions, r.TokenID)
			}
		}
		v.tokensTo = later(v.tokensTo, r.At)
	}
	for _, u := range users {
		switch erased, known := v.blocked[u.UserID]; {
		case u.Erased && !erased:
			fresh.erased = append(fresh.erased, u.UserID)
		case u.Blocked && !known:
			fresh.blocked = append(fresh.blocked, u.UserID)
		}
		v.decide(u.UserID, u.Blocked, u.Erased)
		v.usersTo = later(v.usersTo, u.At)
	}
	return fresh, nil
}

func back(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-revokedSlack)
}

// later passes over what a clock that is ahead wrote: others would be overlooked.
func later(a, b time.Time) time.Time {
	if b.After(a) && !b.After(time.Now()) {
		return b
	}
	return a
}

// forget drops revocations of tokens that have expired meanwhile, and has the next look reach further back: times are
// of the clocks of other nodes, which differ by no more than tokens bear.
func (v *revocations) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	for id, r := range v.tokens {
		if now.After(r.expiresAt.Add(tokenLeeway)) {
			delete(v.tokens, id)
		}
	}
	v.tokensTo, v.usersTo = earlier(v.tokensTo, now.Add(-2*tokenLeeway)), earlier(v.usersTo, now.Add(-2*tokenLeeway))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

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

// allow tells why a session, whose token is right, is not to be served.
func (v *revocations) allow(s hub.Session) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if _, dead := v.tokens[s.ID]; dead {
		return errBadToken
	}
	if erased, blocked := v.blocked[s.User]; erased {
		return errBadToken
	} else if blocked {
		return errBlocked
	}
	return nil
}

// Revoke makes a session's token dead: here at once, elsewhere when the other nodes look next. It returns after the
// commit. keep leaves the sockets that the token opened, on every node: the person has a new token.
func (v *revocations) Revoke(ctx context.Context, s hub.Session, keep bool) error {
	if v.db != nil {
		if err := v.db.RevokeToken(ctx, s.ID, s.ExpiresAt, keep); err != nil {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tokens[s.ID] = revoked{s.ExpiresAt, keep}
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

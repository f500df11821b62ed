package web

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits of requests. The text form of a Rate is "100/s,500" (burst 500) or "off".
type Limits struct {
	Address    Rate // requests of one address without a valid token: 100/s, burst 500 (a shop's Wi-Fi is one address)
	User       Rate // requests of one user: 20/s, burst 60
	Handshakes Rate // upgrades on this node: 2000/s
	AdminLogin Rate // of one address: 5 a minute
}

// Rate is events per second with a burst; Off admits everything. The zero Rate means the default of its place.
type Rate struct {
	PerSecond float64
	Burst     int
	Off       bool
}

// ParseRate reads "100/s,500", "5/m" or "off". Without a burst it is one second's worth, at least 1.
func ParseRate(s string) (Rate, error) {
	if s == "off" {
		return Rate{Off: true}, nil
	}
	bad := fmt.Errorf("%q is no rate: write 100/s, 100/s,500, 5/m or off", s)
	speed, burst, hasBurst := strings.Cut(strings.ReplaceAll(s, " ", ""), ",")
	count, unit, ok := strings.Cut(speed, "/")
	n, err := strconv.ParseFloat(count, 64)
	if !ok || err != nil || !(n > 0 && n <= 1e9) {
		return Rate{}, bad
	}
	switch unit {
	case "s":
	case "m":
		n /= 60
	case "h":
		n /= 3600
	default:
		return Rate{}, bad
	}
	r := Rate{PerSecond: n, Burst: max(1, int(n))}
	if hasBurst {
		if r.Burst, err = strconv.Atoi(burst); err != nil || r.Burst < 1 || r.Burst > 1e9 {
			return Rate{}, bad
		}
	}
	return r, nil
}

func (r Rate) or(perSecond float64, burst int) Rate {
	if r == (Rate{}) {
		return Rate{PerSecond: perSecond, Burst: burst}
	}
	return r
}

// maxWait is the longest that anybody is told to wait; a slower rate would say numbers of no use.
const maxWait = time.Hour

// maxBuckets bounds what a limiter remembers; beyond it, full buckets are forgotten first and then any.
const maxBuckets = 100_000

// A limiter gives each key an allowance (a token bucket). Safe for concurrent use.
type limiter struct {
	rate Rate
	mu   sync.Mutex
	keys map[string]*rate.Limiter
}

func newLimiter(r Rate) *limiter { return &limiter{rate: r, keys: map[string]*rate.Limiter{}} }

// take uses one event of key's allowance, or tells how long to wait for the next.
func (l *limiter) take(key string) (wait time.Duration, ok bool) {
	if l.rate.Off {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.keys[key]
	if b == nil {
		if len(l.keys) >= maxBuckets {
			l.sweepLocked()
		}
		b = rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)
		l.keys[key] = b
	}
	if b.Allow() {
		return 0, true
	}
	seconds := (1 - b.Tokens()) / l.rate.PerSecond
	return min(max(time.Duration(min(seconds, maxWait.Seconds())*float64(time.Second)), time.Millisecond), maxWait), false
}

// sweep forgets the keys that have their whole allowance: they are as good as new.
func (l *limiter) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweepLocked()
}

func (l *limiter) sweepLocked() {
	for key, b := range l.keys {
		if b.Tokens() >= float64(l.rate.Burst) {
			delete(l.keys, key)
		}
	}
	if len(l.keys) < maxBuckets {
		return
	}
	for key := range l.keys { // a quarter, so that the next sweep is not due with the next key
		if len(l.keys) <= maxBuckets*3/4 {
			break
		}
		delete(l.keys, key)
	}
}

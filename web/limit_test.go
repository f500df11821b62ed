package web

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{
		"off": {Off: true}, "100/s,500": {PerSecond: 100, Burst: 500}, "100/s": {PerSecond: 100, Burst: 100},
		" 100/s , 500 ": {PerSecond: 100, Burst: 500}, "5/m": {PerSecond: 5.0 / 60, Burst: 1}, "5/m,5": {PerSecond: 5.0 / 60, Burst: 5},
		"0.5/s": {PerSecond: 0.5, Burst: 1}, "7200/h": {PerSecond: 2, Burst: 2},
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "on", "OFF", "100", "/s", "100/", "100/d", "0/s", "-1/s", "NaN/s", "Inf/s", "1e10/s", "1/s,", "1/s,0", "1/s,-1", "1/s,x",
		"1/s,1,1", "1/s,1.5", "1/s,99999999999999999999", "1/s/s", "x/s", "100/s;500", "１/s",
	} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%q is taken as %+v", text, got)
		} else if got != (Rate{}) {
			t.Errorf("%q: an error and %+v", text, got)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, text := range []string{"off", "100/s,500", "5/m", "1e-300/h,1", "0x1p-2/s", "NaN/s", "1/s,9"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRate(text)
		if err != nil || r.Off {
			return
		}
		if !(r.PerSecond > 0) || math.IsInf(r.PerSecond, 0) || r.Burst < 1 {
			t.Fatalf("%q is %+v", text, r)
		}
		l := newLimiter(r)
		if _, ok := l.take("a"); !ok {
			t.Fatalf("%q: the first is refused", text)
		}
		l.keys["a"].AllowN(time.Now(), r.Burst-1)
		if wait, ok := l.take("a"); !ok && (wait <= 0 || wait > maxWait) {
			t.Fatalf("%q: wait %v", text, wait)
		}
	})
}

// Who waits as long as told is let in then, and not before; nobody pays for another's haste.
func TestLimiter_waitsAreTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Rate{PerSecond: 0.5, Burst: 3})
		for i := range 3 {
			if _, ok := l.take("a"); !ok {
				t.Fatalf("%d of the burst is refused", i)
			}
		}
		wait, ok := l.take("a")
		if ok || wait < 1900*time.Millisecond || wait > 2*time.Second {
			t.Fatalf("after the burst: %v, wait %v", ok, wait)
		}
		if _, ok := l.take("b"); !ok {
			t.Error("b waits for a")
		}
		time.Sleep(wait - 100*time.Millisecond)
		if _, ok := l.take("a"); ok {
			t.Error("let in too early")
		}
		time.Sleep(101 * time.Millisecond)
		if _, ok := l.take("a"); !ok {
			t.Error("waited as long as told, and refused")
		}
		if _, ok := l.take("a"); ok {
			t.Error("two for one")
		}
	})
}

func TestLimiter_extremes(t *testing.T) {
	off := newLimiter(Rate{Off: true})
	for range 1000 {
		if _, ok := off.take("a"); !ok {
			t.Fatal("off refuses")
		}
	}
	if len(off.keys) != 0 {
		t.Error("off remembers")
	}
	slow := newLimiter(Rate{PerSecond: 1e-300, Burst: 1})
	slow.take("a")
	if wait, ok := slow.take("a"); ok || wait != maxWait {
		t.Errorf("a rate of nearly nothing: %v %v", wait, ok)
	}
}

func TestLimiter_concurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Rate{PerSecond: 1, Burst: 50})
		var in atomic.Int64
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				if _, ok := l.take("a"); ok {
					in.Add(1)
				}
			})
		}
		all.Wait()
		if in.Load() != 50 {
			t.Errorf("%d of 200 got in, want 50", in.Load())
		}
	})
}

// A flood of addresses costs bounded memory and, on average, a constant time each.
func TestLimiter_flood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Rate{PerSecond: 0.001, Burst: 2})
		for i := range 3 * maxBuckets {
			l.take(fmt.Sprint(i))
			if len(l.keys) > maxBuckets {
				t.Fatalf("%d keys after %d", len(l.keys), i)
			}
		}
		if len(l.keys) < maxBuckets/2 {
			t.Errorf("only %d keys are left", len(l.keys))
		}
		time.Sleep(3 * time.Hour)
		l.take("used just now")
		l.sweep()
		if len(l.keys) != 1 {
			t.Errorf("%d keys are left when all allowances are whole but one", len(l.keys))
		}
	})
}

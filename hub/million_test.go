package hub

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkMillion opens WXHUB_BENCH_CONNS sockets (20000 unless set; 1000000 needs about 6 GiB) in this one process, by
// the real upgrade and join, each of a user of its own in three rooms: all, its mail, and notice. Their other ends are in
// memory and have no descriptor, so everything takes the queue path. One round is one notice to all of them.
func BenchmarkMillion(b *testing.B) {
	n := 20_000
	if text := os.Getenv("WXHUB_BENCH_CONNS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			b.Fatalf("WXHUB_BENCH_CONNS is %q", text)
		}
	}
	h, err := New(Options{Mail: noMail{}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil { // all at once, and however long it takes
			b.Error(err)
		}
		if err := h.CheckConsistency(); err != nil {
			b.Error(err)
		}
	})
	ends := newSinks(h, nil)
	before, rssBefore := memoryUsed(), resident()
	began, cpuBegan := time.Now(), cpuSpent()
	ends.openMany(b, n, "notice")
	took, cpu := time.Since(began), cpuSpent()-cpuBegan
	if got := h.room("notice").count(); h.Stats().Sockets != n || got != n {
		b.Fatalf("%d of %d are in the room", got, n)
	}
	after, rssAfter := memoryUsed(), resident()
	m := say("purchase", string(benchPayload))
	for i := 0; b.Loop(); i++ {
		delivered := h.delivered.Load()
		publish(b, h, "notice", m)
		for h.delivered.Load()-delivered < uint64(n) {
			time.Sleep(50 * time.Microsecond)
		}
		h.eachConn(func(c *Conn) { c.waitFlusher() })
	}
	b.ReportMetric(float64(after-before)/float64(n), "B/socket")
	b.ReportMetric(float64(rssAfter-rssBefore)/float64(n), "RSS-B/socket")
	b.ReportMetric(float64(cpu.Milliseconds())*1000/float64(n), "open-CPU-ms/1000")
	b.ReportMetric(float64(n)/took.Seconds(), "opened/s")
}

// cpuSpent is what this process has used so far.
func cpuSpent() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memoryUsed is what Go's heap and stacks hold after collections: a stack shrinks by half at each.
func memoryUsed() uint64 {
	for range 3 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// resident is what the system counts for this process, 0 where it does not tell.
func resident() int64 {
	text, _ := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

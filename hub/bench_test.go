package hub

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var benchPayload = []byte(`{"buyer":"王**","product":"spring tea set, 2 boxes","quantity":1,"pad":"` + strings.Repeat("x", 150) + `"}`)

func BenchmarkEncode(b *testing.B) {
	m := Message{ID: "m-1", Action: "purchase", Payload: benchPayload, At: time.Now(), Offset: 13}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = appendPushFrame(buf[:0], "notice", "9f86d081884c7d65", &m)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkParseRequest(b *testing.B) {
	frame := []byte(`{"id":12,"action":"publish","room":"room:tea","data":{"action":"chat","payload":{"text":"hello"}}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, no := parseRequest(frame); no != nil {
			b.Fatal(no)
		}
	}
}

func BenchmarkPublish_withHistory(b *testing.B) {
	broker, _ := NewMemoryBroker(nil)
	m := Message{Action: "purchase", Payload: benchPayload, At: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := broker.Publish(context.Background(), "notice", m, Keep{1000, time.Hour}); err != nil {
			b.Fatal(err)
		}
	}
}

// Deliveries over loopback to readers that only count: b.N is messages. The path is the non-blocking write.
func BenchmarkFanout(b *testing.B) {
	for _, n := range []int{1000, 5000} { // two descriptors a reader in this one process
		for _, window := range []int{1, 32} {
			b.Run(fmt.Sprintf("%d/window%d", n, window), func(b *testing.B) { benchFanout(b, n, window) })
		}
	}
}

func benchFanout(b *testing.B, n, window int) {
	h := newTestHub(b, Options{Limits: Limits{QueueFrames: 1 << 20, QueueBytes: 1 << 28}})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = h.Accept(w, r, session(r)) }))
	b.Cleanup(srv.Close)
	var received atomic.Int64
	var readers sync.WaitGroup
	for i := range n {
		nc, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Skipf("skipped: %v", err)
		}
		b.Cleanup(func() { _ = nc.Close() })
		_, _ = fmt.Fprintf(nc, "GET /ws?user=u%d&room=notice HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", i)
		readers.Go(func() {
			buf := make([]byte, 16<<10)
			for {
				k, err := nc.Read(buf)
				if err != nil {
					return
				}
				received.Add(int64(k))
			}
		})
	}
	eventually(b, "all joined", func() bool {
		r := h.room("notice")
		return r != nil && r.count() == n
	})
	m := Message{ID: "", Action: "purchase", Payload: benchPayload, At: time.Now()}
	before := h.Stats()
	b.ResetTimer()
	for i := range b.N {
		if _, err := h.Publish(context.Background(), "notice", m); err != nil {
			b.Fatal(err)
		}
		for h.delivered.Load()-before.Delivered < uint64((i+1-window)*n) && i >= window {
			time.Sleep(20 * time.Microsecond)
		}
	}
	for h.delivered.Load()-before.Delivered < uint64(b.N*n) {
		time.Sleep(20 * time.Microsecond)
	}
	b.StopTimer()
	after := h.Stats()
	deliveries := float64(b.N * n)
	b.ReportMetric(deliveries/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(after.Written-before.Written)/deliveries, "writes/delivery")
}

func BenchmarkPresence_churn(b *testing.B) {
	h := newTestHub(b, Options{})
	r, err := h.pin("room:tea")
	if err != nil {
		b.Fatal(err)
	}
	if err := r.started(b.Context()); err != nil {
		b.Fatal(err)
	}
	c := &Conn{hub: h, user: "ada"}
	c.session.Store(&Session{User: "ada"})
	b.ReportAllocs()
	for b.Loop() {
		r.repin()
		m, _, ok := r.attach(c, new(held))
		if !ok {
			b.Fatal("not attached")
		}
		c.forget(m)
	}
	r.exit()
}

func BenchmarkRecover100(b *testing.B) {
	h := newTestHub(b, Options{})
	var at Position
	for range 200 {
		at = publish(b, h, "notice", Message{Action: "purchase", Payload: benchPayload})
	}
	r, err := h.pin("notice")
	if err != nil {
		b.Fatal(err)
	}
	defer r.exit()
	b.ReportAllocs()
	for b.Loop() {
		p, err := r.since(b.Context(), encodeNative, Position{at.Epoch, at.Offset - 100}, at)
		if err != nil || p.n != 100 {
			b.Fatal(p.n, err)
		}
	}
}

// BenchmarkIdle prints what a joined, silent socket costs in Go's heap and stacks after a GC. The dialling
// ends are in the same process and counted too (some 0.5 KiB each).
func BenchmarkIdle(b *testing.B) {
	const n = 5000
	h := newTestHub(b, Options{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = h.Accept(w, r, session(r)) }))
	b.Cleanup(srv.Close)
	used := func() uint64 {
		for range 4 { // stacks shrink by half at each
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.Logf("heap %d, stacks %d", m.HeapAlloc, m.StackInuse)
		return m.HeapAlloc + m.StackInuse
	}
	before := used()
	for i := range n {
		nc, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Skipf("skipped: %v", err)
		}
		b.Cleanup(func() { _ = nc.Close() })
		_, _ = fmt.Fprintf(nc, "GET /ws?user=u%d&room=notice HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", i)
	}
	eventually(b, "all joined", func() bool {
		r := h.room("notice")
		return r != nil && r.count() == n
	})
	b.ReportMetric(float64(used()-before)/n, "B/socket")
	for b.Loop() {
	}
}
